"""How much memory a pass of a network needs, measured on one pass."""

import contextlib
import sys
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_SIDE = 256
"""Pixels: side of the picture on which memory is measured. Chosen by hand: large compared with the networks' padding,
and small compared with the pictures that they are used on."""
_UNSEEN = 1.25
"""Ratio of the memory that a pass takes to the tensors that are seen: kernels take memory of their own, and the
allocator rounds up. Chosen by hand."""


class Watch(TorchDispatchMode):
    """Sums up the tensors that live at the same time.

    Attributes:
        peak: most bytes of tensors that lived at the same time, of those that were made in this context.
        operators: number of operators that were called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.operators = self._alive = 0
        self._met: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators += 1
        result = func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and made.untyped_storage()._cdata not in given:
                self._meet(made.untyped_storage())
        return result

    def _meet(self, storage: torch.UntypedStorage) -> None:
        name, size = storage._cdata, storage.nbytes()
        if name in self._met:
            return
        self._met.add(name)
        self._alive += size
        self.peak = max(self.peak, self._alive)
        weakref.finalize(storage, self._part, name, size)

    def _part(self, name: int, size: int) -> None:
        self._met.discard(name)
        self._alive -= size


@torch.inference_mode()
def bytes_per_pixel(function: Callable[[Tensor], Tensor], device: torch.device, channels: int = 3) -> float:
    """Measure the bytes for each pixel that ``function`` needs on ``device`` at its peak.

    The output is included, the input is not. Nothing is kept for gradients.

    Args:
        function: maps (1, C, H, W) to a picture of that size.
        channels: C. With 1, the three channels of a colour picture are passed as a batch.
    """
    noisy = torch.full((3 if channels == 1 else 1, channels, _SIDE, _SIDE), 127.5, device=device)
    with _uncompiled(), Watch() as watch:
        function(noisy)
    return _UNSEEN * watch.peak / _SIDE**2


def _uncompiled() -> contextlib.AbstractContextManager[object]:
    """Run compiled networks without compilation, since compiled code shows no operators. Does not load the compiler."""
    loaded = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if loaded else contextlib.nullcontext()
