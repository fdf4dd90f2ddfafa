"""A square-root curve for linear light, on which shot noise is about equally strong at all intensities."""

import torch
from torch import Tensor

from atbsn.ops.constant import WHITE

_FOOT = 0.01
"""Share of white: the raw value at which read noise is about as strong as shot noise. With the variance a x + b, that
is b / a, which is 0.004 to 0.011 for the middle of the cameras of ``CameraPrior``. Below it noise hardly changes with
the value, so the curve is a straight line below 0, with its slope at 0."""


def to_root(linear: Tensor) -> Tensor:
    """Take the square root of linear light: r(x) = s sqrt(x + f) for x >= 0 and its tangent below, with r(1) = 1.

    x and r are shares of white. Where x is large compared with b / a, noise of variance a x + b gets the standard
    deviation s sqrt(a) / 2. That is Anscombe's transform (Biometrika 1948) with a fixed f, so that a and b need not be
    known.

    Args:
        linear: any shape, [0, 255]; noise may go beyond.

    Returns:
        The same shape; 0 to 255 goes to 25 to 255.
    """
    x = linear / WHITE
    foot = _FOOT**0.5
    curved = torch.where(x >= 0, (x.clamp(min=0) + _FOOT).sqrt(), foot + x / (2 * foot))
    return curved * (WHITE / (1 + _FOOT) ** 0.5)


def from_root(curved: Tensor) -> Tensor:
    """The inverse of ``to_root``."""
    r = curved * ((1 + _FOOT) ** 0.5 / WHITE)
    foot = _FOOT**0.5
    return torch.where(r >= foot, r.square() - _FOOT, 2 * foot * (r - foot)) * WHITE
