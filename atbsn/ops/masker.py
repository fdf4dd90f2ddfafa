"""The global mask mapper of Blind2Unblind (Wang et al., CVPR 2022, arXiv 2203.06967)."""

import torch
from torch import Tensor
from torch.nn import functional as F

CELL = 4
"""Pixels: side of a cell, as published."""
COPIES = CELL * CELL
"""Number of masked copies of a picture: one for each position in a cell."""


def masked_copies(y: Tensor) -> Tensor:
    """Make sixteen copies of each picture, each blind at another position of every 4 x 4 cell.

    Copy i of picture n is item 16 n + i. It differs from ``y`` only in pixel (i // 4, i % 4) of every cell: there it
    has the weighted mean of the eight neighbours, as published. The four beside it have the weight 1/6 and the four at
    the corners 1/12. Pixels beyond the border are 0.

    Args:
        y: (B, C, H, W), H and W multiples of 4.

    Returns:
        (16 B, C, H, W).
    """
    height, width = y.shape[-2:]
    masks = position_masks(y.device).repeat(1, 1, 1, height // CELL, width // CELL)
    return torch.where(masks, _neighbour_mean(y).unsqueeze(1), y.unsqueeze(1)).flatten(0, 1)


def collect_masked(copies: Tensor) -> Tensor:
    """Collect from each of the sixteen copies (16 B, C, H, W) the positions where it is blind: (B, C, H, W)."""
    height, width = copies.shape[-2:]
    cells = copies.unflatten(0, (-1, CELL, CELL)).unflatten(-1, (width // CELL, CELL))
    cells = cells.unflatten(-3, (height // CELL, CELL))  # (B, i, j, C, H/4, 4, W/4, 4)
    own = cells.diagonal(dim1=1, dim2=5).diagonal(dim1=1, dim2=5)  # (B, C, H/4, W/4, i, j)
    return own.permute(0, 1, 2, 4, 3, 5).flatten(4, 5).flatten(2, 3)


def _neighbour_mean(y: Tensor) -> Tensor:
    """The weighted mean of the eight neighbours of each pixel, by sums of slices: autocast would round convolutions."""
    rows = F.pad(y, (1, 1, 1, 1))
    above, here, below = rows[..., :-2, :], rows[..., 1:-1, :], rows[..., 2:, :]
    column = (above + below) / 2 + here  # weights 1/2, 1, 1/2
    beside = column[..., :-2] + column[..., 2:]
    return (beside + (above + below)[..., 1:-1]) / 6


def position_masks(device: torch.device) -> Tensor:
    """Give the position of a cell at which each copy is blind: (1, 16, 1, 4, 4) bool."""
    return torch.eye(COPIES, dtype=torch.bool, device=device).view(1, COPIES, 1, CELL, CELL)
