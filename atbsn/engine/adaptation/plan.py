"""How the minutes of an adaptation are shared out between its stages, and the options of its training."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from atbsn.archs.base import Network
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.precision import autocast, resolve_precision
from atbsn.models.recorrupt import RecorruptModel
from atbsn.noise import estimate
from atbsn.options import Options
from atbsn.options.check import check_options
from atbsn.pictures import find_pictures, picture_size
from atbsn.utils.errors import UserError

CROP_SIDE = 256
"""Pixels: side of the crops that the noise is estimated from and that the judgement looks at."""
MAX_PATCH, _MIN_PATCH = 128, 32
"""Pixels: side of the training patches. Pictures with a shorter side than the first get smaller ones, down to the
second, below which a picture holds too few blocks for an estimate of its noise."""
_BATCH = 4
"""Patches an iteration. Small, since on a CPU many small steps gain more in minutes than few large ones."""
_LEARNING_RATE = 2e-4
"""Of Adam, a tenth of what the shipped weights began with: they are to be bent, not learned anew."""
_STRONG = 5.0
"""Grey values: mean level of the noise above which the start is a teacher (SIDD: 8 to 20) and below which it is not
(PolyU: 2 to 4)."""
_READING_SHARE, _ESTIMATING_SHARE, _JUDGING_SHARE = 0.2, 0.2, 0.15
"""Of the whole time, at most. The rest is for learning, which is what it is all for."""
_MIN_NOISE_CROPS, _MAX_NOISE_CROPS = 4, 32
"""Crops that the noise is estimated from. 32 hold 8,192 blocks of 16 x 16 pixels, 4 hold 1,024: fewer leave intensities
without any."""
_MIN_JUDGED, _MAX_JUDGED = 2, 8
"""Crops that the weights before and after are judged by."""
_RUNS_TO_ESTIMATE = 2
"""Times that the start denoises each crop when the noise is estimated through it (``estimate_with``)."""
_RUNS_TO_JUDGE = 2 * 2.25
"""Before and after: the crop, the crop with a little more noise, and one of a quarter of its pixels."""
_FITS = 3
"""Noise models that are fitted: to the crops, to what the start takes off them, and to what it takes off that again."""
_CROPS_LIKE_ONE_FIT = 12
"""A fit to so many more crops takes as long again as one to a single crop (measured: 0.9 s of a core, 3.1 s for 32)."""
_SIZES_READ = 64
"""Pictures whose size is looked up to choose the patch."""


@dataclass(frozen=True)
class AdaptationPlan:
    """What the time is enough for.

    Attributes:
        reading_seconds: for reading pictures; with many or large ones, some are left out.
        noise_crops: crops that the noise is estimated from.
        judged_crops: crops that the weights are judged by.
        judging_seconds: what that takes.
    """

    reading_seconds: float
    noise_crops: int
    judged_crops: int
    judging_seconds: float


def make_plan(seconds: float, seconds_a_crop: float, seconds_a_fit: float) -> AdaptationPlan:
    """Share out ``seconds``.

    Args:
        seconds_a_crop: that the start takes to denoise a crop, as ``seconds_to_denoise`` measures.
        seconds_a_fit: that a noise model of a single crop takes, as ``seconds_to_fit`` measures.
    """
    fits = _FITS * seconds_a_fit
    each = _RUNS_TO_ESTIMATE * seconds_a_crop + fits / _CROPS_LIKE_ONE_FIT
    noise_crops = _within((_ESTIMATING_SHARE * seconds - fits) / each, _MIN_NOISE_CROPS, _MAX_NOISE_CROPS)
    each = _RUNS_TO_JUDGE * seconds_a_crop
    judged = _within(_JUDGING_SHARE * seconds / each, _MIN_JUDGED, _MAX_JUDGED)
    return AdaptationPlan(_READING_SHARE * seconds, noise_crops, judged, judged * each)


def _within(number: float, least: int, most: int) -> int:
    return max(least, min(most, int(number)))


def seconds_to_denoise(denoiser: Denoiser) -> float:
    """Seconds that one crop takes, after one to warm up."""
    crop = torch.full((1, 3, CROP_SIDE, CROP_SIDE), 128.0)
    denoiser(crop).cpu()
    begin = time.perf_counter()
    denoiser(crop).cpu()
    return time.perf_counter() - begin


def seconds_to_fit() -> float:
    """Seconds that a noise model of one crop takes now, on a crop of noise; other things that run count."""
    crop = 128 + 5 * torch.randn(3, CROP_SIDE, CROP_SIDE, generator=torch.Generator().manual_seed(0))
    begin = time.perf_counter()
    estimate([crop])
    return time.perf_counter() - begin


def seconds_a_step(model: RecorruptModel) -> float:
    """Seconds that an iteration takes now: the mean of two after one to warm up, of which nothing stays."""
    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last)
    batch = {
        "noisy": torch.full((_BATCH, 3, MAX_PATCH, MAX_PATCH), 128.0, device=device),
        "index": torch.zeros(_BATCH, dtype=torch.long),
    }
    begin, counted = 0.0, 2
    for number in range(counted + 1):
        if number == 1:
            begin = time.perf_counter()
        with autocast(resolve_precision("auto", device), device):
            model(batch, torch.zeros((), device=device))["loss"].backward()
        model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return (time.perf_counter() - begin) / counted


def options_of(
    pictures: Sequence[str | Path],
    start: Network,
    weights: Path,
    scratch: str,
    device: torch.device,
    plan: AdaptationPlan,
    seed: int,
) -> Options:
    """The training: ``RecorruptModel`` on crops of ``pictures``, from ``weights`` on, with its files in ``scratch``."""
    patch = _patch(pictures, start)
    train = {
        "type": "PictureCrops", "paths": [str(path) for path in pictures], "least": patch, "seed": seed,
        "seconds": plan.reading_seconds, "patch_size": patch, "batch_size_per_gpu": _BATCH, "num_worker_per_gpu": 0,
    }  # fmt: skip
    raw: dict[str, Any] = {
        "name": "adapt",
        "num_gpu": "auto" if device.type == "cuda" else 0,
        "manual_seed": seed,
        "datasets": {"train": train},
        "network": start.options,
        "model": {
            "type": "RecorruptModel",
            "teacher": str(weights),
            "strong": _STRONG,
            "num_crops": plan.noise_crops,
            "own_models": 1,
        },
        "path": {"root": scratch, "pretrain_network": str(weights)},
        "train": {
            **steps(1),
            "optim": {"type": "Adam", "lr": _LEARNING_RATE, "betas": [0.9, 0.99]},
            "clip_grad_norm": 1.0,
            "precision": resolve_precision("auto", device),
        },
        "logger": {"print_freq": 2**30, "save_checkpoint_freq": 2**30, "use_tb_logger": False},
    }
    return check_options(raw, "adapt")


def steps(total: int) -> dict[str, Any]:
    """The part of ``train`` that the number of iterations decides; weights are averaged over a twentieth of them."""
    return {"total_iter": total, "ema_decay": max(0.0, min(0.998, 1 - 20 / total))}


def _patch(pictures: Sequence[str | Path], net: Network) -> int:
    """Side of the patches to learn from, which is also the shortest side that a picture may have."""
    multiple = RecorruptModel.patch_multiple(type(net), {})
    longest = _MIN_PATCH
    for path in find_pictures([str(path) for path in pictures]).paths[:_SIZES_READ]:
        with contextlib.suppress(UserError):  # it is told of when it is read
            longest = max(longest, min(picture_size(path)))
        if longest >= MAX_PATCH:
            break
    return max(multiple, min(MAX_PATCH, longest) // multiple * multiple)
