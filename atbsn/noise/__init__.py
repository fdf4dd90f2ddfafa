"""Noise models: estimated from noisy pictures alone, sampled at any size, saved with weights.

Which estimate is for what (all leave out what ``usable`` says has no noise, and the plane of each block):

- ``estimate``: a model, from noisy pictures alone. Right where some places are flat.
- ``from_residual``: a model of what a denoiser took off, at the intensities of its result.
- ``estimate_with``: a model for strong noise: ``from_residual``, corrected for what the denoiser leaves in.
- ``estimate_any``: one of the two, by the strength of the noise.
- ``level.noise_level``: one number, quickly; ``level.noise_before_and_after``: two, at the same flat places.
"""

from atbsn.noise.calibration import bounded, estimate_any, estimate_with
from atbsn.noise.estimation import estimate, from_residual
from atbsn.noise.model import NoiseModel
from atbsn.noise.summary import describe_noise, plot

__all__ = [
    "NoiseModel",
    "bounded",
    "describe_noise",
    "estimate",
    "estimate_any",
    "estimate_with",
    "from_residual",
    "plot",
]
