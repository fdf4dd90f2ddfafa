"""How the minutes of an adaptation are shared out between its stages, and the options of its training."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from atbsn.archs.base import Network
from atbsn.engine.adaptation.scenes import SCENE_WHITE
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.precision import resolve_precision
from atbsn.models.renoise import RenoiseModel
from atbsn.noise import estimate
from atbsn.noise.camera import RandomCamera
from atbsn.noise.fingerprint import SIDE
from atbsn.noise.likeness import MIN_TRIED, PATCHES, features
from atbsn.options import Options
from atbsn.options.check import check_options
from atbsn.pictures import find_pictures, picture_size
from atbsn.utils.durations import median_seconds
from atbsn.utils.errors import UserError

CROP_SIDE = 256
"""Pixels: side of the crops that the noise is estimated from and that the judgement looks at."""
_MAX_FACTOR = 2.0
"""Largest factor by which cleaned pictures are reduced (``_FACTORS_OF_STRONG``)."""
_FACTORS_OF_STRONG, _FACTORS_OF_WEAK = (1.0, 1.5, _MAX_FACTOR), (_MAX_FACTOR,)
"""Factors by which cleaned pictures with strong and with weak noise are reduced. At full size they are as soft as the
weights leave them. Measured: on SIDD's image 22, 60 iterations gained 0.27 dB at full size alone, 0.45 at the two
reduced sizes and 0.56 at all three; on PolyU's Canon 5D Mark II 0.13 at all three, 0.15 at 1.5 and 2, and 0.19 at
2."""
_MAX_PATCH, _MIN_PATCH = 128, round(SIDE / _MAX_FACTOR)
"""Pixels: largest and smallest side of the training patches. Small pictures get smaller patches. The smallest patch is
the smallest size from which cameras are found (``likeness.SIDE``), reduced by the largest factor."""
_BATCH = 4
"""Patches an iteration. Chosen by hand: on a CPU, many small steps gain more in minutes than few large ones."""
_RATE_OF_STRONG, _RATE_OF_WEAK = 2e-4, 5e-5
"""Learning rates of Adam for strong and for weak noise: small, since the weights should change only a little. Measured:
on SIDD's image 22, 100 iterations gained 0.34 dB with 2e-4 and 0.27 with 5e-5; on PolyU's Nikon D800 and Canon 5D Mark
II, 220 to 250 iterations gained 0.17 and 0.17 with 2e-4, and 0.26 and 0.23 with 5e-5."""
_OWN_SCENES = {
    "exposure": [0.8, 1.2], "light": [1.0, 1.0], "softened": 0.0, "recoloured": 0.0, "noiseless": 0.02, "grey": 0.0,
    "patterned": 0.0, "enlarged": 0.0,
}  # fmt: skip
"""Arguments of ``CameraPrior`` that differ from its defaults. The scenes are the user's own pictures, so light, colours
and sharpness stay, and only the exposure changes a little. Measured on SIDD's image 22: 100 iterations with the
defaults gained 0.34 dB, and 60 with these values 0.59."""
_READING_SHARE, _ESTIMATING_SHARE, _CLEANING_SHARE, _SEARCHING_SHARE, _JUDGING_SHARE = 0.15, 0.15, 0.08, 0.17, 0.15
"""Largest shares of the whole time for reading pictures, for estimating the noise, for cleaning pictures, for finding
cameras and for judging. The rest is for learning. Chosen by hand."""
_MIN_NOISE_CROPS, _MAX_NOISE_CROPS = 4, 32
"""Fewest and most crops that the noise is estimated from. 32 crops hold 8,192 blocks of 16 x 16 pixels, and 4 hold
1,024; with fewer, some intensities would have no block."""
_MIN_CLEANED, _MAX_CLEANED = 2, 32
"""Fewest and most crops of ``CLEANED_SIDE`` that are cleaned to learn from. Chosen by hand: 32 hold 500 patches."""
CLEANED_SIDE = 512
"""Pixels: side of the crops that are read and cleaned. Chosen by hand."""
_MAX_SEARCHED = 12
"""Most crops for which cameras are searched. Chosen by hand: eight cameras are kept for each crop."""
_MAX_TRIED = 128
"""Most cameras that are tried for one crop. Chosen by hand: a fifth of what a thorough search tries, since several
crops are of one camera."""
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
_CAMERAS_TIMED = 4
"""Cameras that are tried to measure the time for one. Chosen by hand: they take a tenth of a second."""
_CROPS_LIKE_ONE_FIT = 12
"""Number of further crops with which a fit takes as long again as a fit to one crop. Measured: a fit takes 0.9 s of a
core for one crop and 3.1 s for 32."""
_SIZES_READ = 64
"""Most pictures whose size is read to choose the side of the patches. Chosen by hand: this takes little time."""
_NO_TIME_SOON = 2**30
"""Iterations: an interval that no training reaches."""


@dataclass(frozen=True)
class AdaptationPlan:
    """How much of each stage fits into the time of an adaptation.

    Attributes:
        reading_seconds: time for reading pictures. Pictures that do not fit into it are left out.
        noise_crops: number of crops that the noise is estimated from.
        cleaned_crops: number of crops that are cleaned to learn from.
        cleaning_seconds: time for it. Crops that do not fit into it are left out.
        searched_crops: number of crops for which cameras are searched.
        tried: number of cameras that are tried for each of them.
        searching_seconds: time for it. Crops that do not fit into it are left out.
        judged_crops: number of crops that the weights are judged by.
        judging_seconds: time that the judging takes.
    """

    reading_seconds: float
    noise_crops: int
    cleaned_crops: int
    cleaning_seconds: float
    searched_crops: int
    tried: int
    searching_seconds: float
    judged_crops: int
    judging_seconds: float


def make_plan(seconds: float, seconds_a_crop: float, seconds_a_fit: float, seconds_a_camera: float) -> AdaptationPlan:
    """Share out ``seconds`` between the stages.

    Args:
        seconds: time of the whole adaptation.
        seconds_a_crop: time to denoise one crop, as ``seconds_to_denoise`` measures it.
        seconds_a_fit: time to fit a noise model to one crop, as ``seconds_to_fit`` measures it.
        seconds_a_camera: time to try one camera, as ``seconds_to_try`` measures it.
    """
    fits = _FITS * seconds_a_fit
    each = _RUNS_TO_ESTIMATE * seconds_a_crop + fits / _CROPS_LIKE_ONE_FIT
    noise_crops = _within((_ESTIMATING_SHARE * seconds - fits) / each, _MIN_NOISE_CROPS, _MAX_NOISE_CROPS)
    cleaning, searching = _CLEANING_SHARE * seconds, _SEARCHING_SHARE * seconds
    each = (CLEANED_SIDE / CROP_SIDE) ** 2 * seconds_a_crop
    cleaned = _within(cleaning / each, _MIN_CLEANED, _MAX_CLEANED)
    cameras = searching / seconds_a_camera
    searched = _within(cameras / _MAX_TRIED, 1, min(cleaned, _MAX_SEARCHED))
    each = _RUNS_TO_JUDGE * seconds_a_crop
    judged = _within(_JUDGING_SHARE * seconds / each, _MIN_JUDGED, _MAX_JUDGED)
    return AdaptationPlan(
        reading_seconds=_READING_SHARE * seconds,
        noise_crops=noise_crops,
        cleaned_crops=cleaned,
        cleaning_seconds=cleaning,
        searched_crops=searched,
        tried=_within(cameras / searched, MIN_TRIED, _MAX_TRIED),
        searching_seconds=searching,
        judged_crops=judged,
        judging_seconds=judged * each,
    )


def _within(number: float, minimum: int, maximum: int) -> int:
    return max(minimum, min(maximum, int(number)))


def seconds_to_denoise(denoiser: Denoiser) -> float:
    """Measure the seconds that ``denoiser`` takes now for one crop."""
    crop = torch.full((1, 3, CROP_SIDE, CROP_SIDE), 128.0)
    return median_seconds(lambda: denoiser(crop).cpu())


def seconds_to_fit() -> float:
    """Measure the seconds that it takes now to fit a noise model to one crop. Other programs that run add to it."""
    crop = 128 + 5 * torch.randn(3, CROP_SIDE, CROP_SIDE, generator=torch.Generator().manual_seed(0))
    return median_seconds(lambda: estimate([crop]), warm_up=0)


def seconds_to_try() -> float:
    """Measure the seconds that it takes now to try one camera (``cameras_like``)."""
    camera, patches = RandomCamera(), torch.full((_CAMERAS_TIMED * PATCHES, 3, SIDE, SIDE), 128.0)

    def attempt() -> None:
        noisy, clean = (x.unflatten(0, (_CAMERAS_TIMED, PATCHES)) for x in camera(patches))
        features(noisy - clean, clean)

    with torch.random.fork_rng(devices=[]):
        return median_seconds(attempt) / _CAMERAS_TIMED


def options_of(
    start: Network,
    weights: Path,
    scenes: Path,
    cameras: Path,
    scratch: Path,
    is_strong: bool,
    patch: int,
    seed: int,
) -> Options:
    """The options of the training of ``start``: ``RenoiseModel`` on the cleaned pictures of the folder ``scenes``.

    Args:
        start: the network.
        weights: the weight file to begin with.
        scenes: folder of the cleaned pictures.
        cameras: the table of cameras to draw from.
        scratch: folder for all files of the training.
        is_strong: whether sizes and learning rate are those for strong noise, instead of those for weak noise.
        patch: side of the patches, pixels.
        seed: ``manual_seed``.
    """
    device = next(start.parameters()).device
    factors, rate = (_FACTORS_OF_STRONG, _RATE_OF_STRONG) if is_strong else (_FACTORS_OF_WEAK, _RATE_OF_WEAK)
    train = {
        "type": "ReducedFolder", "dataroot": str(scenes), "factors": list(factors), "min_side": patch,
        "white": SCENE_WHITE, "patch_size": patch, "batch_size_per_gpu": _BATCH, "num_worker_per_gpu": 0,
    }  # fmt: skip
    raw: dict[str, Any] = {
        "name": "adapt",
        "num_gpu": "auto" if device.type == "cuda" else 0,
        "manual_seed": seed,
        "datasets": {"train": train},
        "network": start.options,
        "model": {"type": "RenoiseModel", "cameras": str(cameras), "camera": _OWN_SCENES},
        "path": {"root": str(scratch), "pretrain_network": str(weights)},
        "train": {
            **length_options(1),
            "optim": {"type": "Adam", "lr": rate, "betas": [0.9, 0.99]},
            "clip_grad_norm": 1.0,
            "precision": resolve_precision("auto", device),
        },
        "logger": {"print_freq": _NO_TIME_SOON, "save_checkpoint_freq": _NO_TIME_SOON, "use_tb_logger": False},
    }
    return check_options(raw, "adapt")


def length_options(total: int) -> dict[str, Any]:
    """The options of ``train`` that depend on the number of iterations. Weights are averaged over a twentieth of it."""
    return {"total_iter": total, "ema_decay": max(0.0, min(0.998, 1 - 20 / total))}


def patch_side(pictures: Sequence[str | Path], net: Network) -> tuple[int, int]:
    """Side of the training patches, and the shortest side of a picture from which, reduced, they can be cut; pixels."""
    multiple = RenoiseModel.patch_multiple(type(net), {})
    longest = 0
    for path in find_pictures([str(path) for path in pictures]).paths[:_SIZES_READ]:
        with contextlib.suppress(UserError):  # the fault is reported when the picture is read
            longest = max(longest, min(picture_size(path)))
        if longest >= _MAX_FACTOR * _MAX_PATCH:
            break
    side = max(_MIN_PATCH, min(_MAX_PATCH, int(longest / _MAX_FACTOR)))
    side = max(multiple, side // multiple * multiple)
    return side, max(SIDE, math.ceil(_MAX_FACTOR * side))
