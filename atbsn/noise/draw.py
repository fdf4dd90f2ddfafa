"""One random number for every picture of a batch, (B, 1, 1, 1), from PyTorch's generator of the pictures' device."""

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor


def uniform(x: Tensor, low: float, high: float) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, device=x.device) * (high - low) + low


def log_uniform(x: Tensor, low: float, high: float) -> Tensor:
    return torch.exp(uniform(x, math.log(low), math.log(high)))


def normal(x: Tensor) -> Tensor:
    return torch.randn(len(x), 1, 1, 1, device=x.device)


def chance(x: Tensor, probability: float) -> Tensor:
    """True with this probability."""
    return uniform(x, 0, 1) < probability


def one_of(x: Tensor, shares: Sequence[float]) -> Tensor:
    """The place in ``shares``, which need not sum to 1."""
    drawn, steps = uniform(x, 0, sum(shares)), list(accumulate(shares))
    return torch.stack([drawn >= step for step in steps[:-1]]).sum(dim=0)
