"""Giving back what a network took off although noise cannot explain it."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.ops.cosines import SIDE, STRIDE, dct_blocks, from_opponent, overlap_add, pooled_energy, to_opponent
from atbsn.ops.padding import reflect_pad

COARSE = 4
"""Pixels that are averaged, each way, for what is wide."""
FEWEST = 256
"""Blocks below which a picture tells nothing about its noise, and nothing is given back."""
LEFT_IN = 0.1
"""Correlation with the output, see ``left_in``, beyond which ``auto`` stays out.

Within it, one of PolyU's crops lost 0.29 dB (a network's output, blurred): ``auto`` is no guarantee.
"""
_BINS = 16
_SAMPLE = 2**14
_STRIP = 2**18
_FLAT = 0.4
"""The share of a bin's blocks, those where the output varies least, that tell the noise."""
_TAIL = 0.999
_QUIET = 0.05
"""Quantile of the energy of blocks of one intensity at which, where texture went with the noise, noise is alone."""
_SPREAD, _UNEVEN = 0.45, 0.9
"""How far that quantile of the log energy is below the median: of noise (0.41 to 0.49 on five blocks of SIDD), and from
where on what was taken off is no noise of one level (0.9 to 3.5 on PolyU, 2.3 on rock and sand without noise)."""
_FOLLOWS = 0.2
"""``left_in`` from which on texture may have been taken: 0.36 on rock and sand, -0.23 to 0.12 on PolyU (``real``)."""
_EXPLAINED = 5.0
"""Pooled energy over the noise's up to which noise of one level explains it: on SIDD the bar is 3.9 to 5.5 for grey."""
_MEDIAN_OF_SQUARE = 0.4549
"""Of a squared standard normal number."""


@torch.no_grad()
def return_detail(noisy: Tensor, clean: Tensor, amount: float | Literal["auto"]) -> Tensor:
    """``clean`` with the part of the residual noisy - clean that stands out of the picture's own noise.

    The residual's 8 x 8 DCT blocks in opponent colours, and those of the residual averaged 4 x 4 for what is wide, are
    compared with the noise: its level by intensity and its spectrum are medians over the blocks where ``clean`` is
    flattest. With P a coefficient's energy over the noise's, pooled with its neighbours in frequency,
    max(0, 1 - t / P) of it is given back. t is the 99.9th percentile of P in those flat blocks, so that heavy tails and
    levels that differ from place to place raise the bar themselves. No clean picture enters.

    Where nothing is flat, as in a picture full of sand and rock, what the network took off the flattest blocks is
    texture. That shows in two ways: what it took follows what it left (``left_in``), and differs much more from block
    to block than noise does. Then noise is what the quietest twentieth of the residual's blocks has.

    Args:
        noisy: (..., 3, H, W) in [0, 255]; broadcast to ``clean``.
        clean: (..., 3, H, W), what the network gave. Every picture of it is judged by itself.
        amount: the share that is given back, 0 to 1; 0 is ``clean`` itself. ``auto``: all of it where the network left
            hardly any noise in flat regions (``left_in`` within ``LEFT_IN`` of 0), otherwise nothing.

    Returns:
        (..., 3, H, W), of the type and on the device of ``clean``. Pictures of fewer than ``FEWEST`` blocks come back
        as they are.
    """
    if amount == 0:
        return clean
    pictures = clean.reshape(-1, *clean.shape[-3:])
    inputs = noisy.expand_as(clean).reshape(pictures.shape)
    with torch.autocast(clean.device.type, enabled=False):
        result = [_of_picture(y, x, amount, _STRIP) for y, x in zip(inputs, pictures, strict=True)]
    return torch.stack(result).reshape(clean.shape)


@torch.no_grad()
def left_in(noisy: Tensor, clean: Tensor) -> float:
    """How much noise a network left in ``clean``: (3, H, W) each, [0, 255]; nan where nothing can be said.

    sum(r c) / sum(r^2) over the DCT coefficients of the residual r and of ``clean``, c, each over the noise's level, in
    the blocks where ``clean`` is flattest. It is 0 where the network takes all of the noise off, at most a / (1 - a)
    where it leaves the share a of it (blocks with little of it look flattest), and negative where it takes off more
    than there was.
    """
    noise = _Noise.estimate(noisy[None].float(), clean[None].float(), _kept(1, clean.device))
    return math.nan if noise is None else noise.left_in


def _of_picture(noisy: Tensor, clean: Tensor, amount: float | Literal["auto"], strip: int) -> Tensor:
    """(3, H, W) to (3, H, W), computed in strips of about ``strip`` pixels."""
    y, x = noisy[None].float(), clean[None].float()
    fine = _Noise.estimate(y, x, _kept(1, x.device))
    if fine is None or (amount == "auto" and not abs(fine.left_in) <= LEFT_IN):
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
    """What stands out of the residual averaged over 4 x 4 pixels, at that size."""
    y, x = (F.avg_pool2d(whole, COARSE, ceil_mode=True) for whole in (noisy, clean))
    noise = _Noise.estimate(y, x, _kept(0, x.device))
    return None if noise is None else noise.significant(_framed(y - x), _framed(x))[..., STRIDE:-STRIDE, :]


def _framed(x: Tensor) -> Tensor:
    """With the block rows above and below that complete the overlap."""
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
    """The noise in a residual's blocks: variance level[channel, intensity] * spectrum[channel, frequency].

    Attributes:
        bar: (3,) pooled energy over the noise's own up to which noise explains it.
    """

    level: Tensor
    spectrum: Tensor
    bar: Tensor
    kept: Tensor
    left_in: float

    @classmethod
    def estimate(cls, noisy: Tensor, clean: Tensor, kept: Tensor) -> "_Noise | None":
        """From (1, 3, H, W) each; None where there are too few blocks."""
        height, width = clean.shape[-2:]
        if ((height - SIDE) // STRIDE + 1) * ((width - SIDE) // STRIDE + 1) < FEWEST or min(height, width) < SIDE:
            return None
        every = max(1, math.ceil(math.sqrt(height * width / STRIDE**2 / _SAMPLE)))
        energy, content = _sample(noisy, clean, STRIDE * every)
        mean = content[0, 0] / (SIDE * math.sqrt(3))
        flat = _flattest(_bin(mean), content[:, 1:].square().sum(dim=(0, 1)))
        energy, content, bins = energy[:, :, flat], content[:, :, flat], _bin(mean[flat])
        squares = energy.square()
        level, spectrum = _levels_and_spectrum(squares, bins)
        over = 1 / (level[:, bins].unsqueeze(1) * spectrum.unsqueeze(2))
        pooled = pooled_energy(squares.mul(over).unsqueeze(-1)).squeeze(-1)[:, kept]
        bar = torch.stack([_quantile(channel.flatten(), _TAIL) for channel in pooled])
        weight = over.clamp_max(1e4)[:, kept]
        numbers = (energy[:, kept] * content[:, kept] * weight).sum(), (squares[:, kept] * weight).sum()
        left_in = float(numbers[0] / numbers[1].clamp_min(1e-12))
        quiet = _quietest(squares[:, kept].mean(dim=1) / level[:, bins], left_in)
        if quiet is not None:
            level, spectrum = _levels_and_spectrum(squares[:, :, quiet], bins[quiet])
            bar = bar.clamp_max(_EXPLAINED)
        return cls(level, spectrum, bar.clamp_min(1), kept, left_in)

    def significant(self, residual: Tensor, clean: Tensor) -> Tensor:
        """The part of (1, 3, H, W) that stands out; right where two blocks overlap, so not in its outer 4 rows."""
        height, width = residual.shape[-2:]
        down, right = -height % STRIDE, STRIDE + -width % STRIDE
        residual, clean = (reflect_pad(x, STRIDE, right, 0, down) for x in (residual, clean))
        blocks = dct_blocks(to_opponent(residual))
        mean = F.avg_pool2d(clean.mean(dim=1), SIDE, STRIDE)
        variance = _interpolated(self.level, mean[0]).unsqueeze(1) * self.spectrum[:, :, None, None]
        over = pooled_energy(blocks.square() / variance)
        share = (1 - self.bar.view(3, 1, 1, 1) / over.clamp_min_(1e-6)).clamp_(min=0)
        share *= self.kept.view(1, -1, 1, 1)
        return from_opponent(overlap_add(blocks * share))[..., :height, STRIDE : STRIDE + width]


def _sample(noisy: Tensor, clean: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """(3, 64, N) coefficients each, of the residual and of ``clean``, of blocks ``step`` pixels apart."""
    found = []
    rows = step * max(1, _STRIP // clean.shape[-1] // step)
    for top in range(0, clean.shape[-2] - SIDE + 1, rows):
        y, x = (whole[..., top : top + rows - step + SIDE, :] for whole in (noisy, clean))
        found.append([dct_blocks(to_opponent(part), step).flatten(2) for part in (y - x, x)])
    residuals, contents = zip(*found, strict=True)
    return torch.cat(residuals, dim=2), torch.cat(contents, dim=2)


def _levels_and_spectrum(squares: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
    """Medians over the blocks of (3, 64, N): variances (3, _BINS) by intensity and (3, 64) by frequency, mean 1."""
    count = torch.bincount(bins, minlength=_BINS)
    known = (count >= min(FEWEST // 8, int(count.max()))).nonzero().flatten()
    nearest = known[(torch.arange(_BINS, device=bins.device)[:, None] - known).abs().argmin(dim=1)]
    spectrum = torch.ones_like(squares[:, :, 0])
    level = spectrum[:, :_BINS]
    for _ in range(3):
        energy = (squares / spectrum.unsqueeze(2)).mean(dim=1)
        medians = torch.stack([energy[:, bins == index].median(dim=1).values for index in known.tolist()], dim=1)
        level = medians[:, torch.searchsorted(known, nearest)].clamp_min(1e-4)
        spectrum = (squares / level[:, bins].unsqueeze(1)).median(dim=2).values / _MEDIAN_OF_SQUARE
        spectrum = spectrum.clamp_min(1e-3 * spectrum.mean(dim=1, keepdim=True)).clamp_min(1e-6)
    return level, spectrum


def _quietest(energy: Tensor, left_in: float) -> Tensor | None:
    """Indices of the blocks in which noise is alone, of flat ones with this energy (3, N) over the median of their
    intensity; None where that is all of them: texture was not taken.
    """
    grey = energy[0].clamp_min(1e-6).log()
    low = _quantile(grey, _QUIET)
    if not left_in > _FOLLOWS or grey.median() - low < _UNEVEN:
        return None
    return (grey <= low + 2 * _SPREAD).nonzero().flatten()


def _flattest(bins: Tensor, activity: Tensor) -> Tensor:
    """Indices of the ``_FLAT`` least active blocks of every bin, at least ``FEWEST`` / 8 where there are as many."""
    order = torch.argsort(activity, stable=True)
    order = order[torch.argsort(bins[order], stable=True)]
    count = torch.bincount(bins, minlength=_BINS)
    start = count.cumsum(0) - count
    enough = (count * _FLAT).long().clamp_min(FEWEST // 8)
    here = bins[order]
    return order[torch.arange(len(order), device=order.device) - start[here] < enough[here]]


def _bin(mean: Tensor) -> Tensor:
    return (mean * (_BINS / 256)).long().clamp_(0, _BINS - 1)


def _interpolated(level: Tensor, mean: Tensor) -> Tensor:
    """(3, _BINS) levels at the intensities (h, w): (3, h, w)."""
    place = (mean * (_BINS / 256) - 0.5).clamp(0, _BINS - 1)
    below = place.floor().long().clamp_max(_BINS - 2)
    return torch.lerp(level[:, below], level[:, below + 1], (place - below).expand(3, -1, -1))


def _quantile(values: Tensor, q: float) -> Tensor:
    return values.kthvalue(max(1, int(q * values.numel()))).values


def _kept(fine: int, device: torch.device) -> Tensor:
    """(64,) which frequencies a level gives back: the fine one leaves those of fewer than a wave in 8 pixels out."""
    u = torch.arange(SIDE, device=device)
    return (torch.maximum(u[:, None], u) > fine).flatten() if fine else torch.ones(SIDE**2, device=device) > 0
