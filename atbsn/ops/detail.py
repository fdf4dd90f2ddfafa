"""Return detail: give back what a network took off although noise does not explain it."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.ops.cosines import SIDE, STRIDE, dct_blocks, from_opponent, overlap_add, pooled_energy, to_opponent
from atbsn.ops.padding import reflect_pad

COARSE = 4
"""Factor by which the residual is averaged, each way, to look for detail that is wider than a block. Chosen by hand."""
MIN_BLOCKS = 256
"""Fewest blocks of a picture whose noise can be estimated; detail is not returned to smaller ones. Chosen by hand."""
MAX_LEFT_IN = 0.1
"""Largest absolute value of ``left_in`` at which ``auto`` returns detail. Chosen by looking at PolyU; it is no
guarantee: within it, one of PolyU's crops lost 0.29 dB (a network's output that was blurred)."""
_BINS = 16
"""Number of equal intervals of [0, 255] in which the level of the noise is estimated. Chosen by hand."""
_MAX_SAMPLED = 2**14
"""About the most blocks that noise is estimated from. Chosen by hand: enough for the 99.9th percentile."""
_STRIP_PIXELS = 2**18
"""Pixels that are computed at once, which bounds the memory: 64 coefficients of 3 channels take 200 MB."""
_FLAT_SHARE = 0.4
"""Share of the blocks of an interval, those in which the output varies least, that noise is estimated from. Chosen by
hand."""
_TAIL_QUANTILE = 0.999
"""Quantile of the pooled energy of flat blocks above which energy counts as detail: so one coefficient in a thousand of
pure noise is returned in part. Chosen by hand."""
_QUIET_QUANTILE = 0.05
"""Quantile of the energy of blocks of one intensity at which noise is alone, where texture went with the noise. Chosen
by hand."""
_NOISE_SPREAD, _MIN_UNEVEN_SPREAD = 0.45, 0.9
"""How far the log energy at that quantile lies below the median: of noise (0.41 to 0.49 on five blocks of SIDD), and
the least value at which the residual cannot be noise of one level (0.9 to 3.5 on PolyU, 2.3 on rock and sand without
noise)."""
_MIN_FOLLOWING = 0.2
"""Least ``left_in`` at which texture may have been taken off: 0.36 on rock and sand, -0.23 to 0.12 on PolyU
(``real``)."""
_MAX_EXPLAINED = 5.0
"""Largest pooled energy, in units of the noise's, that noise of one level explains: on SIDD the threshold for grey is
3.9 to 5.5."""
_MEDIAN_OF_SQUARE = 0.4549
"""Median of the square of a standard normal number (chi-squared distribution of one degree of freedom)."""
_MAX_WEIGHT = 1e4
"""Largest weight, 1 / variance, of a coefficient in ``left_in``: a variance of 1e-4 grey values squared."""
_ROUNDS = 3
"""Times that levels and spectrum are estimated in turn; further rounds change little. Chosen by hand."""


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
        (..., 3, H, W), of the type and on the device of ``clean``. Pictures of fewer than ``MIN_BLOCKS`` blocks are
        returned unchanged.
    """
    if amount == 0:
        return clean
    pictures = clean.reshape(-1, *clean.shape[-3:])
    inputs = noisy.expand_as(clean).reshape(pictures.shape)
    with torch.autocast(clean.device.type, enabled=False):
        result = [_of_picture(y, x, amount, _STRIP_PIXELS) for y, x in zip(inputs, pictures, strict=True)]
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
        The measure; NaN for a picture of fewer than ``MIN_BLOCKS`` blocks.
    """
    noise = _Noise.estimate(noisy[None].float(), clean[None].float(), _kept(1, clean.device))
    return math.nan if noise is None else noise.left_in


def _of_picture(noisy: Tensor, clean: Tensor, amount: float | Literal["auto"], strip: int) -> Tensor:
    """Return detail to one picture (3, H, W), in strips of about ``strip`` pixels."""
    y, x = noisy[None].float(), clean[None].float()
    fine = _Noise.estimate(y, x, _kept(1, x.device))
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
    """The detail in the residual averaged over 4 x 4 pixels, at that size; None for a picture of too few blocks."""
    y, x = (F.avg_pool2d(whole, COARSE, ceil_mode=True) for whole in (noisy, clean))
    noise = _Noise.estimate(y, x, _kept(0, x.device))
    return None if noise is None else noise.significant(_framed(y - x), _framed(x))[..., STRIDE:-STRIDE, :]


def _framed(x: Tensor) -> Tensor:
    """Reflect the rows above and below that the outermost blocks overlap."""
    return reflect_pad(x, 0, 0, STRIDE, STRIDE)


def _rows(x: Tensor, top: int, bottom: int) -> Tensor:
    """Rows ``top`` to ``bottom`` of (1, 3, H, W), reflected where there are none."""
    height = x.shape[-2]
    inside = x[..., max(top, 0) : min(bottom, height), :]
    above, below = max(-top, 0), max(bottom - height, 0)
    if max(above, below) < inside.shape[-2]:
        return reflect_pad(inside, 0, 0, above, below)
    return reflect_pad(x, 0, 0, above, below)[..., top + above : bottom + above, :]


def _enlarged(wide: Tensor, top: int, bottom: int, width: int) -> Tensor:
    """Rows ``top`` to ``bottom`` of ``wide``, four times as large by linear interpolation."""
    first, last = top // COARSE - 1, (bottom + COARSE - 1) // COARSE + 1
    index = torch.arange(first, last, device=wide.device).clamp_(0, wide.shape[-2] - 1)
    large = F.interpolate(wide.index_select(-2, index), scale_factor=COARSE, mode="bilinear", align_corners=False)
    return large[..., COARSE : COARSE + bottom - top, :width]


@dataclass(frozen=True)
class _Noise:
    """The noise in the blocks of a residual: its variance is level[channel, intensity] * spectrum[channel, frequency].

    Attributes:
        level: (3, _BINS) variance, grey values squared, by intensity.
        spectrum: (3, 64) by frequency, mean 1.
        threshold: (3,) largest pooled energy, in units of the noise's, that noise explains.
        kept: (64,) bool, the frequencies at which detail is returned.
        left_in: see ``left_in``.
    """

    level: Tensor
    spectrum: Tensor
    threshold: Tensor
    kept: Tensor
    left_in: float

    @classmethod
    def estimate(cls, noisy: Tensor, clean: Tensor, kept: Tensor) -> "_Noise | None":
        """Estimate it from ``noisy`` and ``clean`` (1, 3, H, W); None where there are too few blocks."""
        height, width = clean.shape[-2:]
        if ((height - SIDE) // STRIDE + 1) * ((width - SIDE) // STRIDE + 1) < MIN_BLOCKS or min(height, width) < SIDE:
            return None
        every = max(1, math.ceil(math.sqrt(height * width / STRIDE**2 / _MAX_SAMPLED)))
        energy, content = _sample(noisy, clean, STRIDE * every)
        mean = content[0, 0] / (SIDE * math.sqrt(3))
        flat = _flattest(_bin(mean), content[:, 1:].square().sum(dim=(0, 1)))
        energy, content, bins = energy[:, :, flat], content[:, :, flat], _bin(mean[flat])
        squares = energy.square()
        level, spectrum = _levels_and_spectrum(squares, bins)
        over = 1 / (level[:, bins].unsqueeze(1) * spectrum.unsqueeze(2))
        pooled = pooled_energy(squares.mul(over).unsqueeze(-1)).squeeze(-1)[:, kept]
        threshold = torch.stack([_quantile(channel.flatten(), _TAIL_QUANTILE) for channel in pooled])
        weight = over.clamp_max(_MAX_WEIGHT)[:, kept]
        numbers = (energy[:, kept] * content[:, kept] * weight).sum(), (squares[:, kept] * weight).sum()
        left_in = float(numbers[0] / numbers[1].clamp_min(1e-12))
        quiet = _quietest(squares[:, kept].mean(dim=1) / level[:, bins], left_in)
        if quiet is not None:
            level, spectrum = _levels_and_spectrum(squares[:, :, quiet], bins[quiet])
            threshold = threshold.clamp_max(_MAX_EXPLAINED)
        return cls(level, spectrum, threshold.clamp_min(1), kept, left_in)

    def significant(self, residual: Tensor, clean: Tensor) -> Tensor:
        """The part of ``residual`` (1, 3, H, W) that noise does not explain. It is wrong in the outer 4 rows, which too
        few blocks cover."""
        height, width = residual.shape[-2:]
        down, right = -height % STRIDE, STRIDE + -width % STRIDE
        residual, clean = (reflect_pad(x, STRIDE, right, 0, down) for x in (residual, clean))
        blocks = dct_blocks(to_opponent(residual))
        mean = F.avg_pool2d(clean.mean(dim=1), SIDE, STRIDE)
        variance = _interpolated(self.level, mean[0]).unsqueeze(1) * self.spectrum[:, :, None, None]
        over = pooled_energy(blocks.square() / variance)
        share = (1 - self.threshold.view(3, 1, 1, 1) / over.clamp_min_(1e-6)).clamp_(min=0)
        share *= self.kept.view(1, -1, 1, 1)
        return from_opponent(overlap_add(blocks * share))[..., :height, STRIDE : STRIDE + width]


def _sample(noisy: Tensor, clean: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """The DCT coefficients (3, 64, N) of the residual and those of ``clean``, in blocks ``step`` pixels apart."""
    found = []
    rows = step * max(1, _STRIP_PIXELS // clean.shape[-1] // step)
    for top in range(0, clean.shape[-2] - SIDE + 1, rows):
        y, x = (whole[..., top : top + rows - step + SIDE, :] for whole in (noisy, clean))
        found.append([dct_blocks(to_opponent(part), step).flatten(2) for part in (y - x, x)])
    residuals, contents = zip(*found, strict=True)
    return torch.cat(residuals, dim=2), torch.cat(contents, dim=2)


def _levels_and_spectrum(squares: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate level (3, _BINS) and spectrum (3, 64) as medians over blocks.

    Args:
        squares: (3, 64, N) squared coefficients.
        bins: (N,) interval of the intensity of each block.
    """
    count = torch.bincount(bins, minlength=_BINS)
    known = (count >= min(MIN_BLOCKS // 8, int(count.max()))).nonzero().flatten()
    nearest = known[(torch.arange(_BINS, device=bins.device)[:, None] - known).abs().argmin(dim=1)]
    spectrum = torch.ones_like(squares[:, :, 0])
    level = spectrum[:, :_BINS]
    for _ in range(_ROUNDS):
        energy = (squares / spectrum.unsqueeze(2)).mean(dim=1)
        medians = torch.stack([energy[:, bins == index].median(dim=1).values for index in known.tolist()], dim=1)
        level = medians[:, torch.searchsorted(known, nearest)].clamp_min(1e-4)
        spectrum = (squares / level[:, bins].unsqueeze(1)).median(dim=2).values / _MEDIAN_OF_SQUARE
        spectrum = spectrum.clamp_min(1e-3 * spectrum.mean(dim=1, keepdim=True)).clamp_min(1e-6)
    return level, spectrum


def _quietest(energy: Tensor, left_in: float) -> Tensor | None:
    """Indices of the flat blocks in which noise is alone; None if that is all of them, since no texture was taken off.

    Args:
        energy: (3, N) energy of each flat block divided by the median at its intensity.
    """
    grey = energy[0].clamp_min(1e-6).log()
    low = _quantile(grey, _QUIET_QUANTILE)
    if not left_in > _MIN_FOLLOWING or grey.median() - low < _MIN_UNEVEN_SPREAD:
        return None
    return (grey <= low + 2 * _NOISE_SPREAD).nonzero().flatten()


def _flattest(bins: Tensor, activity: Tensor) -> Tensor:
    """Indices of the least active blocks of every interval: ``_FLAT_SHARE`` of them, at least ``MIN_BLOCKS`` / 8."""
    order = torch.argsort(activity, stable=True)
    order = order[torch.argsort(bins[order], stable=True)]
    count = torch.bincount(bins, minlength=_BINS)
    start = count.cumsum(0) - count
    enough = (count * _FLAT_SHARE).long().clamp_min(MIN_BLOCKS // 8)
    here = bins[order]
    return order[torch.arange(len(order), device=order.device) - start[here] < enough[here]]


def _bin(mean: Tensor) -> Tensor:
    return (mean * (_BINS / 256)).long().clamp_(0, _BINS - 1)


def _interpolated(level: Tensor, mean: Tensor) -> Tensor:
    """Interpolate ``level`` (3, _BINS) linearly at the intensities ``mean`` (h, w): (3, h, w)."""
    place = (mean * (_BINS / 256) - 0.5).clamp(0, _BINS - 1)
    below = place.floor().long().clamp_max(_BINS - 2)
    return torch.lerp(level[:, below], level[:, below + 1], (place - below).expand(3, -1, -1))


def _quantile(values: Tensor, q: float) -> Tensor:
    return values.kthvalue(max(1, int(q * values.numel()))).values


def _kept(fine: int, device: torch.device) -> Tensor:
    """(64,) bool: the frequencies at which detail is returned, those of more than ``fine`` half waves a block."""
    u = torch.arange(SIDE, device=device)
    return (torch.maximum(u[:, None], u) > fine).flatten() if fine else torch.ones(SIDE**2, device=device) > 0
