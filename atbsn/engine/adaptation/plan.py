"""How the minutes of an adaptation are shared out between its stages, and the options of its training."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from atbsn.archs.base import Network
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.precision import resolve_precision
from atbsn.models.recorrupt import RecorruptModel
from atbsn.noise import estimate
from atbsn.options import Options
from atbsn.options.check import check_options
from atbsn.pictures import find_pictures, picture_size
from atbsn.utils.durations import median_seconds
from atbsn.utils.errors import UserError

CROP_SIDE = 256
"""Pixels: side of the crops that the noise is estimated from and that the judgement looks at."""
MAX_PATCH, _MIN_PATCH = 128, 32
"""Pixels: largest and smallest side of the training patches. Small pictures get smaller patches. A picture with a
shorter side than the smallest patch holds too few blocks for an estimate of its noise."""
_BATCH = 4
"""Patches an iteration. Chosen by hand: on a CPU, many small steps gain more in minutes than few large ones."""
_LEARNING_RATE = 2e-4
"""Learning rate of Adam: a tenth of the one that the training of the shipped weights began with, since the weights are
to change a little and not to be learned anew."""
_STRONG = 5.0
"""Grey values: mean level of the noise above which the weights that are adapted are the teacher. Chosen between the
levels of SIDD (8 to 20), where a teacher helps, and those of PolyU (2 to 4), where it does not."""
_READING_SHARE, _ESTIMATING_SHARE, _JUDGING_SHARE = 0.2, 0.2, 0.15
"""Largest shares of the whole time for reading pictures, for estimating the noise and for judging. The rest is for
learning. Chosen by hand."""
_MIN_NOISE_CROPS, _MAX_NOISE_CROPS = 4, 32
"""Fewest and most crops that the noise is estimated from. 32 crops hold 8,192 blocks of 16 x 16 pixels, and 4 hold
1,024; with fewer, some intensities would have no block."""
_MIN_JUDGED, _MAX_JUDGED = 2, 8
"""Fewest and most crops that the weights before and after are judged by. Chosen by hand."""
_RUNS_TO_ESTIMATE = 2
"""How many times each crop is denoised for an estimate of the noise (``estimate_with``)."""
_RUNS_TO_JUDGE = 2 * 2.25
"""How many times each crop is denoised for a judgement: for the weights before and for those after, the crop, the crop
with a little more noise, and a crop with a quarter of its pixels."""
_FITS = 3
"""Number of noise models that are fitted: to the crops, to what the weights take off them, and to what they take off
when known noise was added (``estimate_with``)."""
_CROPS_LIKE_ONE_FIT = 12
"""Number of further crops with which a fit takes as long again as a fit to one crop. Measured: a fit takes 0.9 s of a
core for one crop and 3.1 s for 32."""
_SIZES_READ = 64
"""Most pictures whose size is read to choose the side of the patches. Chosen by hand: it takes little time."""
_NO_TIME_SOON = 2**30
"""Iterations: an interval that no training reaches."""


@dataclass(frozen=True)
class AdaptationPlan:
    """How much of each stage fits into the time of an adaptation.

    Attributes:
        reading_seconds: time for reading pictures. Pictures that do not fit into it are left out.
        noise_crops: number of crops that the noise is estimated from.
        judged_crops: number of crops that the weights are judged by.
        judging_seconds: time that the judging takes.
    """

    reading_seconds: float
    noise_crops: int
    judged_crops: int
    judging_seconds: float


def make_plan(seconds: float, seconds_a_crop: float, seconds_a_fit: float) -> AdaptationPlan:
    """Share out ``seconds`` between the stages.

    Args:
        seconds: time of the whole adaptation.
        seconds_a_crop: time to denoise one crop, as ``seconds_to_denoise`` measures it.
        seconds_a_fit: time to fit a noise model to one crop, as ``seconds_to_fit`` measures it.
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
    """Measure the seconds that ``denoiser`` takes now for one crop."""
    crop = torch.full((1, 3, CROP_SIDE, CROP_SIDE), 128.0)
    return median_seconds(lambda: denoiser(crop).cpu())


def seconds_to_fit() -> float:
    """Measure the seconds that it takes now to fit a noise model to one crop. Other programs that run add to it."""
    crop = 128 + 5 * torch.randn(3, CROP_SIDE, CROP_SIDE, generator=torch.Generator().manual_seed(0))
    return median_seconds(lambda: estimate([crop]), warm_up=0)


def options_of(
    pictures: Sequence[str | Path],
    start: Network,
    weights: Path,
    scratch: str,
    device: torch.device,
    plan: AdaptationPlan,
    seed: int,
) -> Options:
    """The options of the training: ``RecorruptModel`` on crops of ``pictures``.

    It begins with the weight file ``weights``, and its files lie in the folder ``scratch``.
    """
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
        "logger": {"print_freq": _NO_TIME_SOON, "save_checkpoint_freq": _NO_TIME_SOON, "use_tb_logger": False},
    }
    return check_options(raw, "adapt")


def steps(total: int) -> dict[str, Any]:
    """The options of ``train`` that depend on the number of iterations: weights are averaged over a twentieth of
    them."""
    return {"total_iter": total, "ema_decay": max(0.0, min(0.998, 1 - 20 / total))}


def _patch(pictures: Sequence[str | Path], net: Network) -> int:
    """Side of the training patches, pixels. It is also the shortest side that a picture may have."""
    multiple = RecorruptModel.patch_multiple(type(net), {})
    longest = _MIN_PATCH
    for path in find_pictures([str(path) for path in pictures]).paths[:_SIZES_READ]:
        with contextlib.suppress(UserError):  # the fault is reported when the picture is read
            longest = max(longest, min(picture_size(path)))
        if longest >= MAX_PATCH:
            break
    return max(multiple, min(MAX_PATCH, longest) // multiple * multiple)
