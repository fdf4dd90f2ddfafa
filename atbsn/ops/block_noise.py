"""The noise in the DCT blocks of a residual: its level by intensity and its spectrum, from the blocks that are flat."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.ops.cosines import SIDE, STRIDE, dct_blocks, from_opponent, overlap_add, pooled_energy, to_opponent
from atbsn.ops.padding import reflect_pad

MIN_BLOCKS = 256
"""Fewest blocks of a picture whose noise can be estimated; detail is not returned to smaller ones. Chosen by hand."""
STRIP_PIXELS = 2**18
"""Pixels that are computed at once, which bounds the memory: 64 coefficients of 3 channels take 200 MB."""
_BINS = 16
"""Number of equal intervals of [0, 255] in which the level of the noise is estimated. Chosen by hand."""
_MAX_SAMPLED = 2**14
"""About the most blocks that noise is estimated from. Chosen by hand: enough for the 99.9th percentile."""
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


@dataclass(frozen=True)
class BlockNoise:
    """The noise in the blocks of a residual: its variance is level[channel, intensity] * spectrum[channel, frequency].

    Attributes:
        level: (3, _BINS) variance, grey values squared, by intensity.
        spectrum: (3, 64) by frequency, mean 1.
        threshold: (3,) largest pooled energy, in units of the noise's, that noise explains.
        kept: (64,) bool, the frequencies at which detail is returned.
        left_in: what ``ops.detail.left_in`` returns.
    """

    level: Tensor
    spectrum: Tensor
    threshold: Tensor
    kept: Tensor
    left_in: float

    @classmethod
    def estimate(cls, noisy: Tensor, clean: Tensor, kept: Tensor) -> "BlockNoise | None":
        """Estimate the noise from ``noisy`` and ``clean`` (1, 3, H, W); None if there are too few blocks.

        Args:
            kept: (64,) bool, the frequencies at which detail is returned.
        """
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
        pooled = pooled_energy((squares * over).unsqueeze(-1))[:, kept]
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
        """Find the part of ``residual`` (1, 3, H, W) that noise does not explain.

        It is wrong in the outer 4 rows, which too few blocks cover.
        """
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
    """Compute the DCT coefficients (3, 64, N) of the residual and of ``clean``, in blocks ``step`` pixels apart."""
    found = []
    rows = step * max(1, STRIP_PIXELS // clean.shape[-1] // step)
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
    """Find the flat blocks in which noise is alone; None if these are all, because no texture was taken off.

    Args:
        energy: (3, N) energy of each flat block divided by the median at its intensity.

    Returns:
        Their indices.
    """
    grey = energy[0].clamp_min(1e-6).log()
    low = _quantile(grey, _QUIET_QUANTILE)
    if not left_in > _MIN_FOLLOWING or grey.median() - low < _MIN_UNEVEN_SPREAD:
        return None
    return (grey <= low + 2 * _NOISE_SPREAD).nonzero().flatten()


def _flattest(bins: Tensor, activity: Tensor) -> Tensor:
    """Find the indices of the least active blocks of every interval: ``_FLAT_SHARE`` of them, at least 32."""
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


def kept_frequencies(above: int, device: torch.device) -> Tensor:
    """Choose the frequencies with more than ``above`` half waves a block, or all for 0: (64,) bool."""
    u = torch.arange(SIDE, device=device)
    return (torch.maximum(u[:, None], u) > above).flatten() if above else torch.ones(SIDE**2, device=device) > 0
