"""Judge which of several networks suits given pictures better, without a clean picture."""

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
"""dB: largest increase of the squared error on fine detail with which a network may still count as better. Chosen by
looking at the first trials of the table in docs/photographs.md; it is less than one sees."""
_MEAN_SIDE = 64
"""Pixels: side of the squares whose mean error does not count as lost detail. Chosen by hand: wider than any detail."""
MIN_PICTURES = 2
"""Fewest pictures that networks are judged by, even when the time is spent: the verdict of a single crop is chance."""

Fault = Literal["error", "detail"]
"""Why weights are not better. ``error``: the estimated error is not smaller. ``detail``: fine detail would be lost."""


@dataclass(frozen=True)
class Judgement:
    """How well one network suits some pictures; every number is a mean over them.

    Attributes:
        residuals: what the network takes off each picture.
        detail_errors: for each picture, a mean squared error, grey values squared. The picture at half its size is
            taken for clean, noise drawn from the noise model is added, and the network denoises it. The small picture
            has finer detail than any output, and most of its own noise is averaged away. So detail that a network
            smooths away shows here even where the estimated noise is too strong, which ``error`` cannot show.
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
        """The mean of one measure of ``Residual`` over the pictures. Where it is NaN, because nothing is taken off, it
        counts as 0."""
        values = [getattr(each, measure) for each in self.residuals]
        return fmean(0.0 if math.isnan(value) else value for value in values)

    def fault(self, other: "Judgement") -> Fault | None:
        """Why this network is not better than ``other``; None if it is better."""
        if self.error >= other.error:
            return "error"
        if self.detail_error >= 10 ** (_MAX_DETAIL_LOSS_DB / 10) * other.detail_error:
            return "detail"
        return None


@torch.inference_mode()
def judge(
    denoisers: Sequence[Denoiser], pictures: Iterable[Tensor], noise: NoiseModel, budget: TimeBudget | None = None
) -> list[Judgement]:
    """Denoise ``pictures`` with each of ``denoisers`` and measure what it takes off and what it loses.

    All networks get the same drawn noise, so that their numbers differ only by what they do.

    Args:
        denoisers: the networks, all on one device.
        pictures: each (3, H, W) in [0, 255], of at least 32 x 32 pixels.
        noise: the noise model of all ``pictures``.
        budget: when it is spent, no more pictures are judged, but at least ``MIN_PICTURES`` are.

    Returns:
        The judgement of each of ``denoisers``.
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
    """Add noise to ``clean`` (1, 3, H, W), clip to [0, 255] and round; one seed gives one result."""
    generator = torch.Generator(clean.device).manual_seed(seed)
    return (clean + noise.sample(clean.clamp(0, 255), generator, clipped=False)).clamp(0, 255).round()


def _detail_error(output: Tensor, clean: Tensor) -> float:
    """Mean squared error after the mean error of each square of 64 x 64 pixels is subtracted.

    So a shift of colour does not count as lost detail.
    """
    error = output - clean
    mean = F.avg_pool2d(error, _MEAN_SIDE, ceil_mode=True, count_include_pad=False)
    mean = F.interpolate(mean, scale_factor=_MEAN_SIDE, mode="nearest")[..., : error.shape[2], : error.shape[3]]
    return float((error - mean).square().mean())
