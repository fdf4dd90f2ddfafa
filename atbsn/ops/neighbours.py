"""Neighbour sub-sampling (Neighbor2Neighbor, Huang et al., CVPR 2021, arXiv 2101.02824)."""

import torch
from torch import Tensor

from atbsn.utils.errors import UserError

PAIRS = ((0, 1), (0, 2), (1, 3), (2, 3), (1, 0), (2, 0), (3, 1), (3, 2))
"""The ordered pairs of adjacent positions in a 2 x 2 cell. The upper positions are 0 and 1, the lower ones 2 and 3."""


def draw_neighbours(x: Tensor) -> Tensor:
    """Draw one of the eight ``PAIRS`` for each 2 x 2 cell of ``x`` (B, C, H, W), uniformly: (B, H/2, W/2) int64.

    Raises:
        UserError: H or W is odd.
    """
    height, width = x.shape[-2:]
    if height % 2 or width % 2:
        raise UserError(
            f"patch of {height} x {width} pixels: cells of 2 x 2 do not fit; choose an even patch_size, such as 256"
        )
    return torch.randint(len(PAIRS), (x.shape[0], height // 2, width // 2), device=x.device)


def neighbours(x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Pick the first and the second pixel of each cell's pair: g1(x) and g2(x), each (B, C, H/2, W/2).

    All channels of a pixel are picked together.

    Args:
        index: (B, H/2, W/2), what ``draw_neighbours`` returns. It can be used for any tensor of this batch and size.
    """
    height, width = index.shape[-2:]
    cells = x.unflatten(3, (width, 2)).unflatten(2, (height, 2)).permute(0, 1, 2, 4, 3, 5).flatten(4)
    # PAIRS[index] by arithmetic, since a table would be copied from the host. The last four pairs are the first four
    # with their positions exchanged.
    rank = index.long() % 4
    low, high = rank // 2 + (rank == 3), (rank + 1).clamp(max=3)
    exchanged = (index >= 4).unsqueeze(-1)
    one, other = torch.stack((low, high), dim=-1), torch.stack((high, low), dim=-1)
    pairs = torch.where(exchanged, other, one).unsqueeze(1)
    first, second = cells.gather(4, pairs.expand(-1, x.shape[1], -1, -1, -1)).unbind(dim=4)
    return first, second
