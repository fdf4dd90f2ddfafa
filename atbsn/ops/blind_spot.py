"""The blind spot k, and the four rotations that make a half-plane network blind in all directions.

AT-BSN (arXiv 2303.16783), section 3: each rotation sees the rows up to its own; shifting its features down by
s = (k + 1) / 2 rows leaves the union of the four blind to exactly the k x k square around a pixel.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.utils.errors import UserError


def blind_spot_shift(k: int) -> int:
    """Rows to shift for blind spot ``k``: s = (k + 1) / 2, and 0 for k = 0 (not blind).

    Raises:
        UserError: ``k`` is negative or even, which would silently equal k - 1.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 0 or (k > 0 and k % 2 == 0):
        raise UserError(f"k = {k!r}: a blind spot is 0 (not blind) or an odd number; use 0, 1, 3, 5, 7, 9 or 11")
    return (k + 1) // 2


def rotate(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``x`` (B, C, H, W) turned by 0, 90, 180 and 270 degrees; 90 and 270 are (B, C, W, H)."""
    turned = x.transpose(2, 3)
    return x, turned.flip(3), x.flip((2, 3)), turned.flip(2)


def unrotate(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Turn the four parts of ``rotate`` upright again; each comes back as (B, C, H, W)."""
    upright, quarter, half, three_quarters = parts
    return upright, quarter.flip(3).transpose(2, 3), half.flip((2, 3)), three_quarters.flip(2).transpose(2, 3)


def shift_outwards(parts: Sequence[Tensor], shift: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shift four upright parts (B, C, H, W) by ``shift`` pixels away from what they see; zeros come in.

    The parts of ``unrotate`` see what is above, left of, below and right of a pixel, so they move down, right,
    up and left: the same as shifting each down before it is turned upright.
    """
    if shift == 0:
        above, left, below, right = parts
        return above, left, below, right
    height, width = parts[0].shape[-2:]
    rows, columns = min(shift, height), min(shift, width)
    above, left, below, right = parts
    return (
        F.pad(above[..., : height - rows, :], (0, 0, rows, 0)),
        F.pad(left[..., : width - columns], (columns, 0)),
        F.pad(below[..., rows:, :], (0, 0, 0, rows)),
        F.pad(right[..., columns:], (0, columns)),
    )


def half_plane_pool(x: Tensor) -> Tensor:
    """Shift ``x`` (B, C, H, W) down by one row (a zero row comes in), then 2 x 2 max-pool.

    Row i of the result sees rows <= 2 i of ``x``. Done without the shifted copy: the pooling's own padding
    puts -inf on top, so only the first row still has to be compared with the zero row.
    """
    pooled = F.max_pool2d(x, 2, padding=(1, 0))[:, :, :-1]
    return torch.cat((pooled[:, :, :1].clamp(min=0), pooled[:, :, 1:]), dim=2)
