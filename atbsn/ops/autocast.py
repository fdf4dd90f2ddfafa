"""Compute in a given number type, whether autocast is on or not."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def outside_autocast(device: torch.device) -> AbstractContextManager[object]:
    """The context in which operators on ``device`` compute in the types they are given."""
    if device.type == "meta":  # it has only shapes, and no autocast
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def computed_in(x: Tensor) -> torch.dtype:
    """The type in which a matrix product with ``x`` is computed: autocast's, if it is on, otherwise that of ``x``."""
    kind = x.device.type
    if kind == "meta" or not x.is_floating_point() or not torch.is_autocast_enabled(kind):
        return x.dtype
    return torch.get_autocast_dtype(kind)
