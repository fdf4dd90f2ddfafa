"""Draw one random number for every picture of a batch.

All functions take the batch ``x`` (B, ...) and return (B, 1, 1, 1) on its device, from PyTorch's generator there.
"""

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor


def uniform(x: Tensor, low: float, high: float) -> Tensor:
    """Uniform in [low, high)."""
    return torch.rand(len(x), 1, 1, 1, device=x.device) * (high - low) + low


def log_uniform(x: Tensor, low: float, high: float) -> Tensor:
    """A number whose logarithm is uniform in [log(low), log(high))."""
    return torch.exp(uniform(x, math.log(low), math.log(high)))


def normal(x: Tensor) -> Tensor:
    """Standard normal."""
    return torch.randn(len(x), 1, 1, 1, device=x.device)


def chance(x: Tensor, probability: float) -> Tensor:
    """True with this probability; bool."""
    return uniform(x, 0, 1) < probability


def one_of(x: Tensor, shares: Sequence[float]) -> Tensor:
    """An index into ``shares``, drawn with probabilities proportional to them; they need not sum to 1."""
    drawn, steps = uniform(x, 0, sum(shares)), list(accumulate(shares))
    return torch.stack([drawn >= step for step in steps[:-1]]).sum(dim=0)
