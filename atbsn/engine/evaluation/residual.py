"""Measures that need no clean picture: what a denoiser removes is compared with the noise of the picture.

With y the noisy picture, f(y) the denoised one and C the covariance of the noise, estimated from y alone, the residual
is r = y - f(y). A perfect denoiser removes the noise and nothing else. Then r has the level of the noise and its
correlations between neighbouring pixels and between channels, and is as strong on texture as on flat areas.

The squared error of f(y) against the clean picture x is estimated, too (Stein, Annals of Statistics 1981; for any
denoiser by one more run, Ramani et al., IEEE TIP 2008)::

    E |f(y) - x|^2  =  E [ |r|^2 - tr C + 2 tr(C J) ],      tr(C J) ~ n' . (f(y + s n') - f(y)) / s

where J is the derivative of f and n' is drawn from the noise model. This assumes Gaussian noise. An error in the
estimated tr C shifts the estimate by the same amount for all denoisers of one picture. So it ranks denoisers better
than it measures one.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from atbsn.metrics import ESTIMATED_PSNR
from atbsn.noise import NoiseModel, estimate
from atbsn.noise.model import local_mean
from atbsn.noise.sampling import REACH
from atbsn.utils.errors import UserError

MAX_SIDE = 1024
"""Pixels: longest side of the central part of a picture that is measured. A megapixel holds 4,096 blocks, which is all
that an estimate of the noise uses of one picture; 24 megapixels would take minutes on a CPU."""
_STEP = 0.25
"""s, in units of the noise's standard deviation. Chosen by hand: so small that the denoiser is nearly linear over it,
and larger than the rounding of bfloat16 (up to half a grey value) at usual noise levels."""
_BLOCK = 16
"""Pixels: side of the blocks in which texture and residual are compared. The noise estimate has blocks of this size."""
_MIN_LEVEL = 0.5
"""Grey values: smallest noise level that anything is divided by. Rounding to whole grey values alone has the standard
deviation 1 / sqrt(12) = 0.29; this is chosen by hand above it."""
_MIN_ERROR_SHARE = 0.01
"""Smallest ratio of an estimated mean squared error to the noise's variance that is believed; smaller ones are raised
to it. 0.01 is a gain of 20 dB, and the best denoisers gain 15 dB on SIDD."""


class NotMeasurableError(UserError):
    """The noise of one picture cannot be estimated, so the picture cannot be measured."""


class Measure(NamedTuple):
    """A number that is measured without a reference.

    Attributes:
        protocol: how it is computed, in words, for logs and the headers of tables.
        higher_is_better: whether higher or lower is better; None: neither, some value between is right.
        digits: digits after the decimal point in tables.
    """

    protocol: str
    higher_is_better: bool | None = None
    digits: int = 4


MEASURES: dict[str, Measure] = {
    ESTIMATED_PSNR: Measure("dB (Stein's unbiased risk estimate with the picture's own noise model)", True, 2),
    "residual_level": Measure("level of what is taken off / level of the noise; 1 is right"),
    "residual_lag1": Measure("its correlation of neighbouring pixels less the noise's; 0 is right"),
    "residual_channels": Measure("its correlation between channels less the noise's; 0 is right"),
    "residual_structure": Measure("correlation of its strength with the picture's texture; 0 is right", False),
}
"""The measures of a set without references, in the order of the tables."""


@dataclass(frozen=True)
class Residual:
    """The measures of one picture denoised by one method.

    Attributes:
        error: estimated mean squared error of the denoised picture, grey values squared; may be negative by chance.
        variance: variance of the noise, mean over pixels and channels, grey values squared.
        level: root mean square of r / (level of the noise at that pixel); 1 is right.
        lag1, noise_lag1: correlation of neighbouring pixels, mean of both directions and all channels, of r and of the
            noise. ``lag1`` is NaN if nothing is removed.
        channels, noise_channels: correlation between channels of r and of the noise, mean of all pairs of channels.
        structure: correlation, over blocks of 16 x 16 pixels, of log r^2 with the log of the visible texture. 0 is
            right; a larger value means that detail is removed together with the noise.
    """

    error: float
    variance: float
    level: float
    lag1: float
    noise_lag1: float
    channels: float
    noise_channels: float
    structure: float

    def values(self) -> dict[str, float]:
        """Its numbers under the names of ``MEASURES``."""
        error = max(self.error, _MIN_ERROR_SHARE * self.variance)
        numbers = (
            10 * math.log10(255**2 / error) if error > 0 else math.inf,
            self.level,
            self.lag1 - self.noise_lag1,
            self.channels - self.noise_channels,
            self.structure,
        )
        return dict(zip(MEASURES, numbers, strict=True))


class ResidualMeter:
    """Estimates the noise of pictures without references, once for each, and remembers it by the picture's name."""

    def __init__(self) -> None:
        self._noise: dict[str, NoiseModel] = {}

    def noise_of(self, key: str, noisy: Tensor) -> NoiseModel:
        """The noise model of ``noisy``, (3, H, W) in [0, 255], the picture ``key``.

        Raises:
            NotMeasurableError: the picture is too small, or all black and white.
        """
        if key not in self._noise:
            try:
                self._noise[key] = estimate([noisy])
            except UserError as error:
                raise NotMeasurableError(f"{key}: not measured, its noise cannot be estimated: {error}") from None
        return self._noise[key]


def centre(picture: np.ndarray, side: int = MAX_SIDE) -> np.ndarray:
    """The central part, of at most ``side`` x ``side`` pixels, of an (H, W, 3) picture: a view."""
    top, left = (max(0, (length - side) // 2) for length in picture.shape[:2])
    return picture[top : top + side, left : left + side]


@torch.inference_mode()
def measure_residuals(
    denoise: Callable[[Tensor], Mapping[str, Tensor]], noisy: Tensor, noise: NoiseModel, seed: int = 0
) -> tuple[dict[str, Tensor], dict[str, Residual]]:
    """Denoise a picture, once as it is and once with a little more noise, and measure what is removed.

    The visible texture is that of the mean of all results, for every one of them. So a denoiser that smooths texture
    away cannot hide that by showing none.

    Args:
        denoise: (1, 3, H, W) in [0, 255] to one or more denoised versions of it, by label.
        noisy: (1, 3, H, W) in [0, 255].
        noise: the model of its noise, on the device of ``noisy``.
        seed: seed of the noise that is drawn.

    Returns:
        The denoised pictures, float32 on the device of ``noisy``, and their measures, both by label.
    """
    around = local_mean(noisy)
    level = noise.level(around)
    draw = noise.sample(around, torch.Generator(noisy.device).manual_seed(seed))
    outputs = {label: output.float().to(noisy.device) for label, output in denoise(noisy).items()}
    shifted = {label: output.float().to(noisy.device) for label, output in denoise(noisy + _STEP * draw).items()}
    level_here = level.clamp(min=_MIN_LEVEL)
    texture = _texture(torch.stack(list(outputs.values())).mean(dim=0) / level_here)
    variance = float(level.square().mean())
    residuals = {}
    for label, output in outputs.items():
        response = float((draw * (shifted[label] - output)).mean()) / _STEP
        error = float((noisy - output).square().mean()) - variance + 2 * response
        residuals[label] = _compared(((noisy - output) / level_here)[0], texture, noise, error, variance)
    return outputs, residuals


def _compared(relative: Tensor, texture: Tensor, noise: NoiseModel, error: float, variance: float) -> Residual:
    """The measures of a residual.

    Args:
        relative: (3, H, W), the residual divided by the level of the noise at each pixel.
        texture: texture of each block, as ``_texture`` gives it.
    """
    level = float(relative.square().mean().sqrt())
    relative = relative - relative.mean(dim=(1, 2), keepdim=True)
    lags = []
    for axis in (1, 2):
        length = relative.shape[axis] - 1
        first, second = relative.narrow(axis, 0, length), relative.narrow(axis, 1, length)
        lags.append((first * second).mean() / relative.square().mean())
    strength = _block_means(relative.square())
    structure = torch.corrcoef(torch.stack([strength.add(1e-6).log(), texture]))[0, 1].nan_to_num()
    own = noise.correlation.diagonal()[[REACH, REACH + 1], [REACH + 1, REACH]]
    pairs = torch.triu_indices(noise.channels, noise.channels, offset=1).unbind()
    return Residual(
        error=error,
        variance=variance,
        level=level,
        lag1=float(torch.stack(lags).mean()),
        noise_lag1=float(own.mean()),
        channels=float(torch.corrcoef(relative.flatten(1))[pairs].mean()),
        noise_channels=float(noise.correlation[..., REACH, REACH][pairs].mean()),
        structure=float(structure),
    )


def _texture(seen: Tensor) -> Tensor:
    """The texture of each block of a picture (1, 3, H, W) in units of the noise: log(1 + mean squared gradient)."""
    down, across = seen.diff(dim=2)[..., :-1], seen.diff(dim=3)[:, :, :-1]
    return _block_means(F.pad(down.square() + across.square(), (0, 1, 0, 1))[0]).log1p()


def _block_means(values: Tensor) -> Tensor:
    """The means of the 16 x 16 blocks of (3, H, W), in one row. Incomplete blocks at right and below are left out."""
    return F.avg_pool2d(values.mean(dim=0)[None, None], _BLOCK).flatten()
