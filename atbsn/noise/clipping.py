"""Clipping of Gaussian noise to [0, 255]: its moments afterwards, and its level before."""

import math

import torch
from torch import Tensor

from atbsn.ops.constant import WHITE

_MAX_GROWTH = 4
"""Largest ratio of a level before clipping to the largest level after it. Chosen by hand."""


def moments_after_clipping(mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation of min(max(x, 0), 255) for Gaussian x of this ``mean`` and ``deviation``."""
    deviation = deviation.clamp(min=1e-6)
    low, high = -mean / deviation, (WHITE - mean) / deviation
    inside = _cdf(high) - _cdf(low)
    first = inside * mean + deviation * (_pdf(low) - _pdf(high)) + WHITE * _cdf(-high)
    second = inside * (mean**2 + deviation**2) + WHITE**2 * _cdf(-high)
    second = second + deviation * (mean * _pdf(low) - (mean + WHITE) * _pdf(high))
    return first, (second - first**2).clamp(min=0).sqrt()


def unclipped_levels(seen: Tensor, steps: int = 40) -> Tensor:
    """Compute the noise-level function before clipping from the one after it, by bisection.

    Args:
        seen: (C, N) standard deviations after clipping, at N equally spaced means after clipping.
        steps: steps of the bisection; 40 halve the interval to below the rounding of float32.

    Returns:
        (C, N) standard deviations before clipping, at N equally spaced means before clipping. Gaussian noise of such a
        level has, when it is clipped, the level that ``seen`` says at the mean it then has. It is at most 4 times the
        largest level in ``seen``.
    """
    count = seen.shape[1]
    mean = torch.linspace(0, WHITE, count, dtype=torch.float64, device=seen.device).expand(len(seen), -1)
    curve = seen.double()
    low, high = torch.zeros_like(curve), curve.max(dim=1, keepdim=True).values.expand_as(curve) * _MAX_GROWTH
    for _ in range(steps):
        middle = (low + high) / 2
        first, deviation = moments_after_clipping(mean, middle)
        too_strong = deviation > interpolate(curve, first)
        low, high = torch.where(too_strong, low, middle), torch.where(too_strong, middle, high)
    return ((low + high) / 2).to(seen.dtype)


def interpolate(values: Tensor, x: Tensor) -> Tensor:
    """Interpolate ``values`` (C, N), given at equally spaced points of [0, 255], linearly at ``x`` (C, M): (C, M)."""
    position = x.clamp(0, WHITE) * ((values.shape[1] - 1) / WHITE)
    left = position.long().clamp(max=values.shape[1] - 2)
    part = position - left
    return values.gather(1, left) * (1 - part) + values.gather(1, left + 1) * part


def _pdf(x: Tensor) -> Tensor:
    return torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def _cdf(x: Tensor) -> Tensor:
    return torch.special.ndtr(x)
