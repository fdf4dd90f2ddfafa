"""Reflection padding that has no largest pad, and padding to a multiple."""

import torch
from torch import Tensor
from torch.nn import functional as F


def reflect_pad(x: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """Pad ``x`` (B, C, H, W) by reflection without repeating the edge; pads may exceed the picture.

    A side of one pixel has nothing to reflect and is repeated.
    """
    height, width = x.shape[-2:]
    if not has_any_size(x) and max(left, right) < width and max(top, bottom) < height:
        return F.pad(x, (left, right, top, bottom), mode="reflect") if left or right or top or bottom else x
    rows = _reflected_indices(height, top, bottom, x.device)
    columns = _reflected_indices(width, left, right, x.device)
    return x.index_select(-2, rows).index_select(-1, columns)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad ``x`` (B, C, H, W) at the bottom and on the right by reflection, to multiples of ``multiple``."""
    height, width = x.shape[-2:]
    right, bottom = ((side + multiple - 1) // multiple * multiple - side for side in (width, height))
    return reflect_pad(x, 0, right, 0, bottom)


def has_any_size(x: Tensor) -> bool:
    """Whether the height or width of ``x`` is a symbol: when exported for any size, nothing may branch on it."""
    return any(isinstance(side, torch.SymInt) for side in x.shape[-2:])


def _reflected_indices(size: int, before: int, after: int, device: torch.device) -> Tensor:
    index = torch.arange(-before, size + after, device=device)
    if size == 1:
        return torch.zeros_like(index)
    period = torch.full((), 2 * (size - 1), device=device)
    index = index.remainder(period)
    return torch.minimum(index, period - index)
