"""A square-root curve: linear light in which shot noise is about as strong everywhere."""

import torch
from torch import Tensor

_WHITE = 255.0
_FOOT = 0.01
"""Share of white: the raw value at which read noise is about as strong as shot noise. With variance a x + b, that is
b / a, which is .004 to .011 for the middle of the cameras of ``CameraPrior``. Below it noise hardly changes with the
value; so below 0 the slope is that at 0."""


def to_root(linear: Tensor) -> Tensor:
    """r(x) = s sqrt(x + f) for x >= 0, its tangent below, so that noise below black keeps its place; r(1) = 1.

    Noise of variance a x + b has the standard deviation s sqrt(a) / 2 on it, where x is large against b / a: Anscombe's
    transform (Biometrika 1948) with a fixed foot f, which needs no a and b.

    Args:
        linear: in [0, 255], and what noise puts outside of it.
    """
    x = linear / _WHITE
    foot = _FOOT**0.5
    curved = torch.where(x >= 0, (x.clamp(min=0) + _FOOT).sqrt(), foot + x / (2 * foot))
    return curved * (_WHITE / (1 + _FOOT) ** 0.5)


def from_root(curved: Tensor) -> Tensor:
    """The inverse of ``to_root``."""
    r = curved * ((1 + _FOOT) ** 0.5 / _WHITE)
    foot = _FOOT**0.5
    return torch.where(r >= foot, r.square() - _FOOT, 2 * foot * (r - foot)) * _WHITE
