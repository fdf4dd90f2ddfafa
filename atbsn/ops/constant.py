"""Numbers and tensors that never change; tensors are kept on every device where they were needed."""

import torch
from torch import Tensor

WHITE = 255.0
"""White inside the framework, in grey values. Networks that were published for [0, 1] divide by it."""


class Constant:
    """``Constant(value).like(x)`` is ``value`` on the device of ``x`` and of its type. It is copied there only once.

    A copy from the host in every step would make the device wait, and a CUDA graph could not capture it.
    """

    def __init__(self, value: Tensor) -> None:
        self._value = value
        self._kept: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        place = (x.device, x.dtype)
        if place not in self._kept:
            self._kept[place] = self._value.to(x)
        return self._kept[place]
