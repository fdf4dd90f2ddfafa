"""The transfer function of sRGB (IEC 61966-2-1), between [0, 1] and [0, 1]."""

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

_SLOPE, _OFFSET, _GAMMA = 12.92, 0.055, 2.4
"""Numbers of the standard: the slope of the line, and a and gamma of (1 + a) x^(1 / gamma) - a."""
_SRGB_KNEE, _LINEAR_KNEE = 0.04045, 0.0031308
"""Values of the standard, encoded and linear, below which the curve is a straight line of slope ``_SLOPE``."""

Values = TypeVar("Values", Tensor, np.ndarray)


def srgb_to_linear(srgb: Values) -> Values:
    """Decode gamma-corrected values of any shape to linear light. Values below 0 stay on the straight line."""
    if isinstance(srgb, Tensor):
        return torch.where(srgb <= _SRGB_KNEE, srgb / _SLOPE, ((srgb.clamp(min=0) + _OFFSET) / (1 + _OFFSET)) ** _GAMMA)
    return np.where(srgb <= _SRGB_KNEE, srgb / _SLOPE, ((srgb.clip(min=0) + _OFFSET) / (1 + _OFFSET)) ** _GAMMA)


def linear_to_srgb(linear: Values) -> Values:
    """Encode linear light of any shape with the curve of sRGB: the inverse of ``srgb_to_linear``."""
    if isinstance(linear, Tensor):
        # The clamp keeps the gradient of the power finite at 0, where the straight line is taken.
        rising = (1 + _OFFSET) * linear.clamp(min=1e-6) ** (1 / _GAMMA) - _OFFSET
        return torch.where(linear <= _LINEAR_KNEE, _SLOPE * linear, rising)
    curve = (1 + _OFFSET) * linear.clip(min=0) ** (1 / _GAMMA) - _OFFSET
    return np.where(linear <= _LINEAR_KNEE, _SLOPE * linear, curve)
