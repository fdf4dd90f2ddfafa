"""Return detail: give back what a network took off although noise does not explain it."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.ops.block_noise import STRIP_PIXELS, BlockNoise, kept_frequencies
from atbsn.ops.cosines import SIDE, STRIDE
from atbsn.ops.padding import reflect_pad

COARSE = 4
"""Factor by which the residual is averaged, each way, to look for detail that is wider than a block. Chosen by hand."""
MAX_LEFT_IN = 0.1
"""Largest absolute value of ``left_in`` at which ``auto`` returns detail. Chosen by looking at PolyU; it is no
guarantee: within it, one of PolyU's crops lost 0.29 dB (a network's output that was blurred)."""


@torch.no_grad()
def return_detail(noisy: Tensor, clean: Tensor, amount: float | Literal["auto"]) -> Tensor:
    """Add to ``clean`` the part of the residual noisy - clean that is stronger than the picture's own noise.

    The residual is cut into 8 x 8 DCT blocks in opponent colours. To find detail that is wider than a block, the same
    is done with the residual averaged over 4 x 4 pixels. The coefficients are compared with the noise, whose level by
    intensity and whose spectrum are medians over the blocks where ``clean`` is flattest. With P the energy of a
    coefficient divided by that of the noise, pooled with its neighbours in frequency, the share max(0, 1 - t / P) of
    the coefficient is returned. The threshold t is the 99.9th percentile of P in the flat blocks. So heavy tails, and
    levels that differ from place to place, raise the threshold. No clean picture is used.

    Where nothing is flat, as in a picture full of sand and rock, what the network took off the flattest blocks is
    texture. It is recognised by two signs: the residual is correlated with the output (``left_in``), and its energy
    differs from block to block much more than that of noise. Then noise is estimated from the twentieth of the blocks
    whose residual is weakest.

    Args:
        noisy: (..., 3, H, W) in [0, 255]; broadcast to ``clean``.
        clean: (..., 3, H, W), the output of the network. Each of its pictures is judged by itself.
        amount: the share of the detail that is returned, 0 to 1. ``auto``: all of it where the network left hardly any
            noise in flat regions (``left_in`` within ``MAX_LEFT_IN`` of 0), otherwise nothing.

    Returns:
        (..., 3, H, W), of the type and on the device of ``clean``. Pictures of fewer than 256 blocks are
        returned unchanged.
    """
    if amount == 0:
        return clean
    pictures = clean.reshape(-1, *clean.shape[-3:])
    inputs = noisy.expand_as(clean).reshape(pictures.shape)
    with torch.autocast(clean.device.type, enabled=False):
        result = [_of_picture(y, x, amount, STRIP_PIXELS) for y, x in zip(inputs, pictures, strict=True)]
    return torch.stack(result).reshape(clean.shape)


@torch.no_grad()
def left_in(noisy: Tensor, clean: Tensor) -> float:
    """Measure how much noise a network left in ``clean``: the regression of the output on the residual in flat blocks.

    With r and c the DCT coefficients of the residual and of ``clean``, each divided by the standard deviation of the
    noise, it is sum(r c) / sum(r^2) over the blocks where ``clean`` is flattest. It is 0 where the network takes off
    all noise, at most a / (1 - a) where it leaves the share a of the noise (since blocks with little noise look
    flattest), and negative where it takes off more than there is.

    Args:
        noisy, clean: (3, H, W), [0, 255].

    Returns:
        The measure; NaN for a picture of fewer than 256 blocks.
    """
    noise = BlockNoise.estimate(noisy[None].float(), clean[None].float(), kept_frequencies(1, clean.device))
    return math.nan if noise is None else noise.left_in


def _of_picture(noisy: Tensor, clean: Tensor, amount: float | Literal["auto"], strip: int) -> Tensor:
    """Return detail to one picture (3, H, W), in strips of about ``strip`` pixels."""
    y, x = noisy[None].float(), clean[None].float()
    fine = BlockNoise.estimate(y, x, kept_frequencies(1, x.device))
    if fine is None or (amount == "auto" and not abs(fine.left_in) <= MAX_LEFT_IN):
        return clean
    share = 1.0 if amount == "auto" else amount
    result = x.clone()
    wide = _wide(y, x)
    height, width = x.shape[-2:]
    rows = max(4 * SIDE, strip // width // SIDE * SIDE)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        around_y, around_x = (_rows(whole, top - STRIDE, bottom + SIDE) for whole in (y, x))
        given = fine.significant(around_y - around_x, around_x)[..., STRIDE : STRIDE + bottom - top, :]
        if wide is not None:
            given = given + _enlarged(wide, top, bottom, width)
        result[..., top:bottom, :] += share * given
    return result[0].to(clean.dtype)


def _wide(noisy: Tensor, clean: Tensor) -> Tensor | None:
    """Find the detail in the residual averaged over 4 x 4 pixels, at that size; None if there are too few blocks."""
    y, x = (F.avg_pool2d(whole, COARSE, ceil_mode=True) for whole in (noisy, clean))
    noise = BlockNoise.estimate(y, x, kept_frequencies(0, x.device))
    return None if noise is None else noise.significant(_framed(y - x), _framed(x))[..., STRIDE:-STRIDE, :]


def _framed(x: Tensor) -> Tensor:
    """Reflect the rows above and below that the outermost blocks overlap."""
    return reflect_pad(x, 0, 0, STRIDE, STRIDE)


def _rows(x: Tensor, top: int, bottom: int) -> Tensor:
    """Cut rows ``top`` to ``bottom`` out of (1, 3, H, W), with reflection beyond the picture."""
    height = x.shape[-2]
    inside = x[..., max(top, 0) : min(bottom, height), :]
    above, below = max(-top, 0), max(bottom - height, 0)
    if max(above, below) < inside.shape[-2]:
        return reflect_pad(inside, 0, 0, above, below)
    return reflect_pad(x, 0, 0, above, below)[..., top + above : bottom + above, :]


def _enlarged(wide: Tensor, top: int, bottom: int, width: int) -> Tensor:
    """Compute rows ``top`` to ``bottom`` of ``wide`` enlarged four times by linear interpolation."""
    first, last = top // COARSE - 1, (bottom + COARSE - 1) // COARSE + 1
    index = torch.arange(first, last, device=wide.device).clamp_(0, wide.shape[-2] - 1)
    large = F.interpolate(wide.index_select(-2, index), scale_factor=COARSE, mode="bilinear", align_corners=False)
    return large[..., COARSE : COARSE + bottom - top, :width]
