"""Which of several networks suits pictures better of which no clean version is known."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from atbsn.engine.evaluation.residual import Residual, measure_residuals
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.noise import NoiseModel
from atbsn.utils.budget import TimeBudget

_MAX_DETAIL_LOSS_DB = 0.1
"""By so much, in dB, may the error on fine detail grow: less than one sees. Chosen by looking at the first trials of
the table in docs/photographs.md."""
_MEAN_SIDE = 64
"""Pixels: side of the squares whose mean error does not count as lost detail."""
MIN_PICTURES = 2
"""So many pictures are always judged by, whatever the time: the verdict of a single crop is chance."""

Fault = Literal["error", "detail"]
"""Why weights are not better: the estimated error is not smaller; or fine detail would be lost."""


@dataclass(frozen=True)
class Judgement:
    """How well one network suits some pictures; every number is a mean over them.

    Attributes:
        residuals: what it takes off each picture.
        detail_errors: for each picture, the mean squared error, grey values squared, where the picture at half its
            size is taken for clean and gets noise drawn from the model. Its detail is finer than any that an output
            has, and most of its own noise is averaged away. So detail that a network smooths away shows here even
            where the estimated noise is too strong, which ``error`` cannot see.
    """

    residuals: tuple[Residual, ...]
    detail_errors: tuple[float, ...]

    @property
    def error(self) -> float:
        """Estimated mean squared error (see ``Residual``), grey values squared."""
        return fmean(each.error for each in self.residuals)

    @property
    def detail_error(self) -> float:
        """Mean of ``detail_errors``."""
        return fmean(self.detail_errors)

    def mean(self, measure: Literal["level", "lag1", "noise_lag1", "structure"]) -> float:
        """The mean of one measure of ``Residual``; 0 where nothing is taken off, so that there is none."""
        values = [getattr(each, measure) for each in self.residuals]
        return fmean(0.0 if math.isnan(value) else value for value in values)

    def fault(self, other: "Judgement") -> Fault | None:
        """Why this network is not better than ``other``; None: it is better."""
        if self.error >= other.error:
            return "error"
        if self.detail_error >= 10 ** (_MAX_DETAIL_LOSS_DB / 10) * other.detail_error:
            return "detail"
        return None

    def is_better_than(self, other: "Judgement") -> bool:
        """Whether the estimated error is smaller and no fine detail pays for it."""
        return self.fault(other) is None


@torch.inference_mode()
def judge(
    denoisers: Sequence[Denoiser], pictures: Iterable[Tensor], noise: NoiseModel, budget: TimeBudget | None = None
) -> list[Judgement]:
    """Denoise ``pictures`` with each of ``denoisers`` and measure what it takes off and what it loses.

    All see the same noise, so their numbers differ by what they do alone.

    Args:
        denoisers: all on one device.
        pictures: each (3, H, W) in [0, 255], of at least 32 x 32 pixels.
        noise: of all ``pictures``.
        budget: when it is spent, the judgement is that of the pictures until then, but at least ``MIN_PICTURES``.
    """
    device = denoisers[0].device
    noise = noise.to(device)

    def outputs(noisy: Tensor) -> dict[str, Tensor]:
        return {str(number): denoiser(noisy) for number, denoiser in enumerate(denoisers)}

    residuals: list[list[Residual]] = [[] for _ in denoisers]
    detail_errors: list[list[float]] = [[] for _ in denoisers]
    for number, picture in enumerate(pictures):
        if budget is not None and budget.is_spent and number >= MIN_PICTURES:
            break
        noisy = picture[None].to(device, memory_format=torch.contiguous_format)
        for found, residual in zip(
            residuals, measure_residuals(outputs, noisy, noise, number)[1].values(), strict=True
        ):
            found.append(residual)
        clean = F.avg_pool2d(noisy, 2)
        again = _with_noise(clean, noise, number)
        for errors, denoiser in zip(detail_errors, denoisers, strict=True):
            errors.append(_detail_error(denoiser(again).float().to(device), clean))
    return [Judgement(tuple(found), tuple(errors)) for found, errors in zip(residuals, detail_errors, strict=True)]


def _with_noise(clean: Tensor, noise: NoiseModel, seed: int) -> Tensor:
    """What a camera with this noise makes of ``clean``, (1, 3, H, W) in [0, 255]; the same for all networks."""
    generator = torch.Generator(clean.device).manual_seed(seed)
    return (clean + noise.sample(clean.clamp(0, 255), generator, clipped=False)).clamp(0, 255).round()


def _detail_error(output: Tensor, clean: Tensor) -> float:
    """Mean squared error, less the mean of each square of 64 x 64 pixels: a shift of colour is no lost detail."""
    error = output - clean
    mean = F.avg_pool2d(error, _MEAN_SIDE, ceil_mode=True, count_include_pad=False)
    mean = F.interpolate(mean, scale_factor=_MEAN_SIDE, mode="nearest")[..., : error.shape[2], : error.shape[3]]
    return float((error - mean).square().mean())
