"""Noise models from what a denoiser takes off, which shows noise on texture too, corrected for what it leaves in."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from atbsn.noise.estimation import estimate, from_residual
from atbsn.noise.model import NoiseModel
from atbsn.pictures import to_tensor

_MIN_CORRECTION, _MAX_CORRECTION = 0.5, 2.0
"""Range of the factor by which a level is corrected. Chosen by hand: a larger one would follow chance."""
_DOUBTFUL_KURTOSIS = 3.3
"""Kurtosis of a noise model above which a part of it may be texture. That of a Gaussian is 3; 3.3 is chosen by hand."""
_MAX_RATIO = 1.5
"""Largest ratio of the level that is believed to the level that a denoiser takes off. Denoisers that know many cameras
take off at least 1 / 1.5 of weak noise: on PolyU 1 / 1.5 to 1 / 1.2."""
_MIN_TAKEN_OFF = 0.6
"""Smallest ratio of the level that a denoiser takes off to the level of the noise at which it counts as one that knows
this noise. Chosen by hand: more than half."""


def estimate_with(
    denoise: Callable[[Tensor], Tensor], pictures: Iterable[np.ndarray | Tensor], seed: int = 0
) -> NoiseModel:
    """Estimate the noise model of ``pictures`` from what ``denoise`` takes off, calibrated on noise that is known.

    A denoiser leaves some noise in and takes some detail off, so the model of the residual is wrong by a factor. Let M1
    be the model of y - D(y). Noise drawn from M1 is added to D(y), and M2 is the model of what D takes off then. M2
    differs from M1 as M1 differs from the truth. So the levels are M1 M1 / M2, and the correlation is M1 + M1 - M2.

    It is meant for strong noise, which ``estimate`` sees only where pictures are flat. It is within 10 % on SIDD's
    scenes and on most pictures full of texture. It is not for weak noise, of which denoisers leave in about half: on
    PolyU its levels are half too low and those of ``estimate`` a quarter.

    Args:
        denoise: a denoiser of (C, H, W) tensors in [0, 255] on the CPU.
        pictures: as for ``estimate``.
        seed: seed of the choice of blocks and of the noise that is added.

    Raises:
        UserError: as ``estimate``.
    """
    noisy = [picture if isinstance(picture, Tensor) else to_tensor(picture) for picture in pictures]
    clean = [denoise(picture) for picture in noisy]
    found = from_residual(zip(noisy, clean, strict=True), seed)
    draws = torch.Generator().manual_seed(seed)
    again = [(scene + found.sample(scene[None], draws, clipped=False)[0]).clamp(0, 255).round() for scene in clean]
    seen = from_residual(((picture, denoise(picture)) for picture in again), seed)
    found.correlation.mul_(2).sub_(seen.correlation)
    found.levels.mul_((found.levels / seen.levels.clamp(min=1e-3)).clamp(_MIN_CORRECTION, _MAX_CORRECTION))
    return found


def bounded(found: NoiseModel, through: NoiseModel) -> NoiseModel:
    """Limit the levels of ``found`` (from ``estimate``) by those of ``through`` (from ``estimate_with``).

    ``estimate`` takes texture for noise where nothing is flat. Noise is about equally strong in every block of one
    intensity, and texture is not. So where the kurtosis says that the blocks differ, each level becomes at most 1.5
    times that of ``through``. Crops full of texture, on which ``estimate`` finds two to five times the noise, are then
    not smoothed away by a network that learns from the model. On PolyU and SIDD, and for noise that the denoiser does
    not know, nothing changes.

    Returns:
        ``found`` itself, changed.
    """
    if found.kurtosis > _DOUBTFUL_KURTOSIS:
        found.levels.copy_(found.levels.minimum(_MAX_RATIO * through.levels))
    return found


def estimate_any(
    denoise: Callable[[Tensor], Tensor], pictures: Iterable[np.ndarray | Tensor], strong: float, seed: int = 0
) -> tuple[NoiseModel, bool]:
    """Estimate the noise model of ``pictures`` with noise of any strength, by what suits that strength.

    Args:
        denoise, pictures, seed: as for ``estimate_with``.
        strong: grey values: mean level of the noise above which it counts as strong, if ``denoise`` takes off most of
            it.

    Returns:
        The noise model, and whether the noise is strong: that of ``estimate_with``, or else that of ``estimate``,
        ``bounded`` by it.

    Raises:
        UserError: as ``estimate``.
    """
    noisy = [picture if isinstance(picture, Tensor) else to_tensor(picture) for picture in pictures]
    through = estimate_with(denoise, noisy, seed)
    found = bounded(estimate(noisy, seed), through)
    level, taken_off = (model.mean_level(noisy) for model in (found, through))
    is_strong = level > strong and taken_off > _MIN_TAKEN_OFF * level
    return (through if is_strong else found), is_strong
