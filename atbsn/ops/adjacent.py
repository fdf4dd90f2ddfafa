"""APR-RD's adjacent pixel replacer (AAAI 2025): makes two pictures of one by replacing each pixel with a neighbour."""

from itertools import product

import torch
from torch import Tensor

WINDOW = tuple((row, column) for column, row in product((-1, 0, 1), repeat=2))
"""The nine offsets (down, right) of a 3 x 3 window, column by column."""

PAIRS = tuple((first, second) for first in WINDOW for second in WINDOW if first != second)
"""The 72 ordered pairs of different offsets."""


def draw_pairs(x: Tensor) -> Tensor:
    """Draw one of ``PAIRS`` for every pixel of ``x`` (B, C, H, W), uniformly: (B, H, W) int64.

    The numbers come from torch's generator, on the device of ``x``.
    """
    return torch.randint(len(PAIRS), (x.shape[0], *x.shape[2:]), device=x.device)


def replace_adjacent(x: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Replace every pixel of ``x`` by a pixel of the 3 x 3 window around it, in two ways: h1(x) and h2(x).

    Args:
        x: (B, C, H, W); all channels of a pixel are taken together.
        pairs: (B, H, W), which of ``PAIRS`` each pixel takes: its place in h1(x) and its other place in h2(x). Places
            beyond the border are clamped to it, so the two may be the same there.

    Returns:
        Two tensors of the shape of ``x``. The gradient goes to the pixels that were taken.
    """
    height, width = x.shape[-2:]
    # PAIRS[p] by arithmetic, since a table would be copied from the host. The second place is one of the other eight.
    pairs, others = pairs.long(), len(WINDOW) - 1
    first, rank = pairs // others, pairs % others
    places = torch.stack((first, rank + (rank >= first)), dim=-1)  # in WINDOW: (B, H, W, 2 pictures)
    rows = torch.arange(height, device=x.device).view(-1, 1, 1) + places % 3 - 1
    columns = torch.arange(width, device=x.device).view(-1, 1) + places // 3 - 1
    places = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    flat = x.flatten(2)
    first, second = places.flatten(1, 2).unsqueeze(1).expand(-1, x.shape[1], -1, -1).unbind(-1)
    return flat.gather(2, first).view(x.shape), flat.gather(2, second).view(x.shape)
