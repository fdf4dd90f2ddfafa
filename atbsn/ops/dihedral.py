"""The eight orientations of a square: flips and rotations by 90 degrees.

An orientation in 0..7 is a bit field, applied in this order: bit 2 transposes H and W, bit 0 flips W
(left-right), bit 1 flips H (up-down). So 0 to 3 are the flips (3 is the rotation by 180 degrees) and 0, 6, 3,
5 the rotations by 0, 90, 180 and 270 degrees counter-clockwise.
"""

import torch
from torch import Tensor

FLIPS = (0, 1, 2, 3)
"""The orientations that flips give."""
ROTATIONS = (0, 6, 3, 5)
"""The orientations that rotations give, by 0, 90, 180 and 270 degrees counter-clockwise."""
ORIENTATIONS = tuple(range(8))
"""All eight orientations."""


def dihedral(x: Tensor, orientation: int | Tensor) -> Tensor:
    """Turn ``x`` (B, C, H, W), any dtype.

    Args:
        orientation: one int for all samples, of any H x W; or an int64 tensor (B,) on the device of ``x``,
            one a sample, for squares (one gather, channels last in memory, no synchronisation).
    """
    if isinstance(orientation, int):
        x = x.transpose(-2, -1) if orientation & 4 else x
        dims = [dim for dim, bit in ((-1, 1), (-2, 2)) if orientation & bit]
        return x.flip(dims) if dims else x
    assert x.shape[-2] == x.shape[-1], f"one orientation a sample needs squares, got {tuple(x.shape)}"
    index = torch.arange(x.shape[-1], device=x.device)
    turn = orientation.view(-1, 1, 1)
    rows = torch.where(turn & 2 > 0, index.flip(0), index).transpose(1, 2)
    columns = torch.where(turn & 1 > 0, index.flip(0), index)
    transposed = turn & 4 > 0
    rows, columns = torch.where(transposed, columns, rows), torch.where(transposed, rows, columns)
    batch = torch.arange(x.shape[0], device=x.device).view(-1, 1, 1)
    return x.permute(0, 2, 3, 1)[batch, rows, columns].permute(0, 3, 1, 2)


def undihedral(x: Tensor, orientation: int | Tensor) -> Tensor:
    """The inverse of ``dihedral`` with the same orientation."""
    return dihedral(x, _inverse(orientation))


def _inverse(orientation: int | Tensor) -> int | Tensor:
    """Each orientation is its own inverse, except the rotations by 90 (6) and 270 degrees (5)."""
    if isinstance(orientation, int):
        return {5: 6, 6: 5}.get(orientation, orientation)
    return orientation + (orientation == 5).long() - (orientation == 6).long()
