"""NSP's sub-sampling (CVPR 2026): a small block of each cell is the target, and every other pixel is an input."""

import torch
from torch import Tensor

from atbsn.utils.errors import UserError

CELL, BLOCK = 5, 2
"""Sides of a cell and of the block in it, pixels, as published."""
NUM_INPUTS = CELL**2 - BLOCK**2
"""Number of pixels of a cell that are inputs: 21."""


def draw_order(x: Tensor) -> Tensor:
    """Draw an order of the 25 pixels of every 5 x 5 cell of ``x`` (B, C, H, W): (B, H/5, W/5, 25) int64.

    The pixels of a cell have the numbers 0 to 24, row by row. The first four of an order are one of the 16 blocks of
    2 x 2 contiguous pixels, drawn uniformly. The other 21 follow in random order. The numbers come from torch's
    generator, on the device of ``x``.

    Raises:
        UserError: H or W is not a multiple of 5.
    """
    height, width = x.shape[-2:]
    if height % CELL or width % CELL:
        raise UserError(f"patch of {height} x {width} pixels: not a multiple of the cell of {CELL}; use 160")
    cells = (x.shape[0], height // CELL, width // CELL)
    places = CELL - BLOCK + 1
    top, left = torch.randint(places, (2, *cells, 1), device=x.device)
    row = torch.arange(BLOCK, device=x.device)
    block = (CELL * row[:, None] + row).flatten()
    keys = torch.rand(*cells, CELL**2, device=x.device)
    first = torch.arange(-(BLOCK**2), 0, device=x.device, dtype=keys.dtype).expand(*cells, -1)
    return keys.scatter(-1, CELL * top + left + block, first).argsort(dim=-1)


def split_cells(x: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Split the cells of ``x`` (B, C, H, W) into target and inputs; all channels of a pixel are taken together.

    Args:
        order: what ``draw_order`` returns.

    Returns:
        The target (B, C, 2H/5, 2W/5), the blocks side by side; and the inputs (21, B, C, H/5, W/5), each with one pixel
        of every cell.
    """
    height, width = order.shape[1:3]
    cells = x.unflatten(3, (width, CELL)).unflatten(2, (height, CELL)).permute(0, 1, 2, 4, 3, 5).flatten(-2)
    ordered = cells.gather(-1, order.unsqueeze(1).expand(-1, x.shape[1], -1, -1, -1))
    target = ordered[..., : BLOCK**2].unflatten(-1, (BLOCK, BLOCK)).permute(0, 1, 2, 4, 3, 5)
    return target.flatten(4, 5).flatten(2, 3), ordered[..., BLOCK**2 :].permute(4, 0, 1, 2, 3)
