"""The blind spot k, and the four rotations that make a half-plane network blind in all directions.

AT-BSN (arXiv 2303.16783), section 3: each rotation sees the rows up to its own; shifting its features down by
s = (k + 1) / 2 rows leaves the union of the four blind to exactly the k x k square around a pixel.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from reprlib import repr as shorten
from typing import Annotated, Any

import torch
from pydantic import AfterValidator
from torch import Tensor
from torch.nn import functional as F

from atbsn.ops import ways
from atbsn.utils.errors import UserError

MAX_BLIND_SPOT = 1023
"""Pixels. Chosen by hand, far above the published 11: a larger one would only fill the memory with zeros."""


def blind_spot_shift(k: int) -> int:
    """Give the number of rows to shift for blind spot ``k``: s = (k + 1) / 2, and 0 for k = 0 (not blind).

    Raises:
        UserError: ``k`` is negative, above 1023, or even, which would silently equal k - 1.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 0 or (k > 0 and k % 2 == 0):
        raise UserError(f"k = {k!r}: a blind spot is 0 (not blind) or an odd number; use 0, 1, 3, 5, 7, 9 or 11")
    if k > MAX_BLIND_SPOT:
        raise UserError(f"k = {shorten(k)}: a blind spot is at most {MAX_BLIND_SPOT}; use 0, 1, 3, 5, 7, 9 or 11")
    return (k + 1) // 2


def _check_blind_spot(k: int) -> int:
    blind_spot_shift(k)
    return k


BlindSpot = Annotated[int, AfterValidator(_check_blind_spot)]
"""A blind spot k, 0 or odd, as the type of a constructor argument."""


def rotate(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``x`` (B, C, H, W) turned by 0, 90, 180 and 270 degrees; 90 and 270 are (B, C, W, H).

    All are channels last in memory if ``x`` is.
    """
    turned = x.transpose(2, 3).contiguous(memory_format=memory_format(x))
    return x, turned.flip(3), x.flip((2, 3)), turned.flip(2)


def unrotate(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Turn the four parts of ``rotate`` upright again; each comes back as (B, C, H, W).

    What a half-plane network saw above a pixel in the turned picture lies above, left of, below and right of it in
    the upright one, in this order. Rows of zeros on top of a part (its margin) turn with it: they come to lie above,
    left, below and right.
    """
    upright, quarter, half, three_quarters = parts
    return upright, quarter.flip(3).transpose(2, 3), half.flip((2, 3)), three_quarters.flip(2).transpose(2, 3)


def shift_outwards(parts: Sequence[Tensor], shift: int, margin: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shift four upright parts by ``shift`` pixels away from what they see; zeros come in. No copy.

    The parts of ``unrotate`` move down, right, up and left: the same as shifting each down before it is turned
    upright. Each part has ``margin`` rows or columns of zeros on the side that it sees, so a shifted part is a window
    of it that begins within these zeros.

    Args:
        parts: (B, C, margin + H, W) of what is above and below, (B, C, H, margin + W) of what is left and right.
        shift: at most ``margin``.

    Returns:
        Four of (B, C, H, W).
    """
    above, left, below, right = parts
    height, width = left.shape[-2], above.shape[-1]
    start = margin - shift
    return (
        above[..., start : start + height, :],
        left[..., start : start + width],
        below[..., shift : shift + height, :],
        right[..., shift : shift + width],
    )


def sums_of_shifts(parts: Sequence[Tensor], shifts: Sequence[int], margin: int) -> Tensor:
    """Sum the four parts of ``shift_outwards`` for each of K ``shifts``: (K B, C, H, W), one shift after the other.

    Without gradients, equally spaced shifts, such as 0, 1, ..., 6 of the published family, take 2 + K additions. Two of
    these do all shifts at once, and nothing is copied. Otherwise it takes 3 K additions and a concatenation.
    """
    batch, channels = parts[0].shape[:2]
    steps = {after - before for before, after in pairwise(shifts)}
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or len(steps) != 1 or min(steps) < 1:
        sums = []
        for shift in shifts:
            above, left, below, right = shift_outwards(parts, shift, margin)
            sums.append((above + left).add_(below).add_(right))
        return sums[0] if len(sums) == 1 else torch.cat(sums)
    above, left, below, right = parts
    height, width = left.shape[-2], above.shape[-1]
    total, other = (
        torch.empty(
            (len(shifts) * batch, channels, height, width),
            dtype=above.dtype, device=above.device, memory_format=torch.channels_last,
        ).unflatten(0, (len(shifts), batch))
        for _ in range(2)
    )  # fmt: skip
    first, last, step = shifts[0], shifts[-1], next(iter(steps))
    outwards, inwards = slice(first, last + 1, step), slice(margin - last, margin - first + 1, step)
    # Windows of what is below and on the right begin at the shift, of what is above and on the left at margin - shift.
    torch.add(_row_windows(below, height)[outwards], _column_windows(right, width)[outwards], out=total)
    torch.add(_row_windows(above, height)[inwards], _column_windows(left, width)[inwards], out=other)
    for sum_, more in zip(total, reversed(other.unbind()), strict=True):
        sum_.add_(more)
    return total.flatten(0, 1)


def _row_windows(x: Tensor, height: int) -> Tensor:
    """Every ``height`` rows of ``x`` (B, C, H, W): (H - height + 1, B, C, height, W). No copy."""
    return x.unfold(2, height, 1).permute(2, 0, 1, 4, 3)


def _column_windows(x: Tensor, width: int) -> Tensor:
    """Every ``width`` columns of ``x`` (B, C, H, W): (W - width + 1, B, C, H, width). No copy."""
    return x.unfold(3, width, 1).permute(3, 0, 1, 2, 4)


def rows_outwards(parts: Sequence[Tensor], top: int, bottom: int, margin: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cut the rows ``top`` to ``bottom`` out of four upright parts that have a margin.

    The parts above and below keep ``margin`` more rows, which ``shift_outwards`` moves in. So it gives the same for a
    band of rows as for the whole picture.
    """
    above, left, below, right = parts
    return (
        above[..., top : bottom + margin, :],
        left[..., top:bottom, :],
        below[..., top : bottom + margin, :],
        right[..., top:bottom, :],
    )


def in_blocks(
    parts: Sequence[Tensor],
    margin: int,
    function: Callable[[tuple[Tensor, Tensor, Tensor, Tensor]], Tensor],
    num_heads: int = 1,
) -> Tensor:
    """Apply ``function`` to four upright parts that have a margin, to some pictures and rows at a time.

    Args:
        function: maps the parts of b pictures and h rows (``rows_outwards``) to (K, b, C, h, W). What it computes in
            between exists for one block only. So it stays in the cache of a CPU, and the memory does not grow with the
            picture.
        num_heads: number of holes that ``function`` computes at once on a GPU; the more there are, the smaller the
            blocks.

    Returns:
        (K, B, C, H, W).
    """
    height, width = parts[1].shape[-2], parts[0].shape[-1]
    block = block_pixels(parts[0].device, num_heads)
    num_pictures = max(1, block // (height * width))
    num_rows = max(1, 4 * margin, block // (num_pictures * width))
    pictures = []
    for group in zip(*(part.split(num_pictures) for part in parts), strict=True):
        blocks = [
            function(rows_outwards(group, top, min(top + num_rows, height), margin))
            for top in range(0, height, num_rows)
        ]
        pictures.append(blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=-2))
    return pictures[0] if len(pictures) == 1 else torch.cat(pictures, dim=1)


def block_pixels(device: torch.device, num_heads: int) -> int:
    """Give the number of pixels of a block of ``in_blocks``.

    On a GPU these are 2^18, shared by all heads, or 2^17 for a single head, which are 0.4 GB of AT-BSN's features. On a
    CPU they are 2^12, so that a block stays in the cache. Chosen by hand.
    """
    if ways.like_a_gpu(device):
        return 2**18 // max(2, num_heads)
    return 2**14 if torch.compiler.is_compiling() else 2**12  # fewer blocks compile faster


def concatenate_channels(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate the channels of ``parts`` (B, C, H, W). The result is channels last in memory, however they lie."""
    return torch.cat([part.permute(0, 2, 3, 1) for part in parts], dim=-1).permute(0, 3, 1, 2)


def half_plane_pool(x: Tensor, margin: int = 0) -> Tensor:
    """Shift ``x`` (B, C, H, W) down by one row (a zero row comes in), then 2 x 2 max-pool.

    Row i of the result sees rows <= 2 i of ``x``. The result lies below ``margin`` rows of zeros. No shifted copy of
    ``x`` is made: the pooling itself pads one row on top. It pads with -inf, which no maximum takes, where the shift
    would bring zeros, so the first row of the result is then compared with 0.
    """
    pooled = F.max_pool2d(x, 2, padding=(1, 0))
    first, rest = pooled[:, :, :1].clamp(min=0), pooled[:, :, 1:-1]
    if not margin:
        return torch.cat((first, rest), dim=2)
    return torch.cat((torch.zeros_like(first).expand(-1, -1, margin, -1), first, rest), dim=2)


def leaky_relu_below(x: Tensor, slope: float, margin: int) -> Tensor:
    """LeakyReLU of ``x`` (B, C, H, W), which it may overwrite, below ``margin`` zero rows: (B, C, margin + H, W)."""
    if not margin:
        return F.leaky_relu(x, slope, inplace=True)
    if torch.compiler.is_compiling():  # fuses the two
        return F.pad(F.leaky_relu(x, slope), (0, 0, margin, 0))
    return _LeakyReLUBelow.apply(x, slope, margin)


def memory_format(x: Tensor) -> torch.memory_format:
    """Whether ``x`` (B, C, H, W) is channels last in memory or not."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


class _LeakyReLUBelow(torch.autograd.Function):
    """``leaky_relu_below`` in one pass over memory, which keeps only the result for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, margin: int) -> Tensor:
        batch, channels, height, width = x.shape
        result = torch.empty(
            (batch, channels, margin + height, width),
            dtype=x.dtype,
            device=x.device,
            memory_format=memory_format(x),
        )
        result[:, :, :margin].zero_()
        torch.ops.aten.leaky_relu.out(x, slope, out=result[:, :, margin:])
        ctx.save_for_backward(result)
        ctx.slope, ctx.margin = slope, margin
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (result,) = ctx.saved_tensors
        rows = slice(ctx.margin, None)
        return torch.ops.aten.leaky_relu_backward(gradient[:, :, rows], result[:, :, rows], ctx.slope, True), None, None
