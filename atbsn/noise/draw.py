"""One random number for every picture of a batch, (B, 1, 1, 1), from PyTorch's generator of the pictures' device."""

import math
from collections.abc import Sequence

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
    steps = torch.tensor(shares, device=x.device, dtype=torch.float32).cumsum(0)
    return (uniform(x, 0, 1) * steps[-1] >= steps[:-1]).sum(dim=-1, keepdim=True)
