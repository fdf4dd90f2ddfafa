"""Noise models: estimated from noisy pictures alone, sampled at any size, saved with weights."""

from atbsn.noise.calibration import bounded, estimate_with
from atbsn.noise.estimation import estimate, from_residual
from atbsn.noise.model import NoiseModel
from atbsn.noise.summary import describe, plot

__all__ = ["NoiseModel", "bounded", "describe", "estimate", "estimate_with", "from_residual", "plot"]
