"""NSP's sub-sampling (CVPR 2026): a small block of each cell is the target, every other pixel an input."""

import torch
from torch import Tensor

from atbsn.utils.errors import UserError

CELL, BLOCK = 5, 2
"""Sides of a cell and of the block in it, pixels."""
NUM_INPUTS = CELL**2 - BLOCK**2


def draw_order(x: Tensor) -> Tensor:
    """Draw an order of the pixels of every 5 x 5 cell of ``x`` (B, C, H, W): (B, H/5, W/5, 25) int64, 0 to 24 row by
    row.

    The first four are one of the 16 blocks of 2 x 2 contiguous pixels, row by row, drawn uniformly; the other 21 follow
    in random order. Drawn from torch's generator, on the device of ``x``.

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
    """Target and inputs, by the order of ``draw_order``; all channels of a pixel are taken together.

    Returns:
        (B, C, 2H/5, 2W/5), the blocks side by side; and (21, B, C, H/5, W/5), one pixel of each cell in each.
    """
    height, width = order.shape[1:3]
    cells = x.unflatten(3, (width, CELL)).unflatten(2, (height, CELL)).permute(0, 1, 2, 4, 3, 5).flatten(-2)
    ordered = cells.gather(-1, order.unsqueeze(1).expand(-1, x.shape[1], -1, -1, -1))
    target = ordered[..., : BLOCK**2].unflatten(-1, (BLOCK, BLOCK)).permute(0, 1, 2, 4, 3, 5)
    return target.flatten(4, 5).flatten(2, 3), ordered[..., BLOCK**2 :].permute(4, 0, 1, 2, 3)
