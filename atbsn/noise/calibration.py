"""A noise model through a denoiser, which sees the noise on texture too, put right for what the denoiser leaves."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from atbsn.noise.estimation import from_residual
from atbsn.noise.model import NoiseModel
from atbsn.pictures import to_tensor

_LEAST, _MOST = 0.5, 2.0
"""Between these a level is put right."""
_DOUBTFUL = 3.3
"""Kurtosis above which some of an estimate may be texture: blocks without it differ less."""
_BOUND = 1.5
"""A denoiser that knows many cameras takes off no less than 1 / 1.5 of weak noise (PolyU: 1 / 1.2 to 1 / 1.5)."""


def estimate_with(
    denoise: Callable[[Tensor], Tensor], pictures: Iterable[np.ndarray | Tensor], seed: int = 0
) -> NoiseModel:
    """The noise model of ``pictures`` by what ``denoise`` takes off them, calibrated on noise that is known.

    A denoiser leaves some of the noise in and takes some detail off with it, so the residual's model is off by a
    factor. With M1 the model of y - D(y), noise of M1 is put on D(y), and M2 is the model of what D takes off that: it
    is off from M1 as M1 is from the truth. So the levels are M1 M1 / M2, and the correlation is M1 + M1 - M2.

    For strong noise, which ``estimate`` sees only where pictures are flat: it is within 10 % on SIDD's scenes and on
    most pictures full of texture. Weak noise, of which a denoiser leaves half in, is beyond it: on PolyU, ``estimate``
    is nearer (a quarter too little, against a half).

    Args:
        denoise: (3, H, W) in [0, 255], on the CPU, to the same.
        pictures: as for ``estimate``.
        seed: of the choice of blocks and of the noise that is put on.

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
    found.levels.mul_((found.levels / seen.levels.clamp(min=1e-3)).clamp(_LEAST, _MOST))
    return found


def bounded(found: NoiseModel, through: NoiseModel) -> NoiseModel:
    """``found`` by ``estimate``, which takes texture for noise where nothing is flat, held down by ``estimate_with``.

    Noise is about as strong in every block of one intensity, texture is not: where the kurtosis says that the blocks
    differ, the level at each intensity becomes at most 1.5 times that of ``through``. Crops that are all texture, on
    which ``estimate`` finds two to five times the noise, are then not smoothed away by what learns from it; on PolyU
    and SIDD, and for noise that the denoiser does not know, nothing changes.
    """
    if found.kurtosis > _DOUBTFUL:
        found.levels.copy_(found.levels.minimum(_BOUND * through.levels))
    return found
