"""From shipped weights to weights for one camera, in minutes, from its noisy pictures alone."""

import contextlib
import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from atbsn.app.judgement import Judgement, judge
from atbsn.archs.base import Network
from atbsn.archs.weights import load_with_metadata, save_weights
from atbsn.engine.precision import autocast, resolve_precision
from atbsn.engine.training.experiment import RunFolders
from atbsn.engine.training.interrupt import StopSignal
from atbsn.engine.training.setup import build_trainer, build_training
from atbsn.models.recorrupt import RecorruptModel
from atbsn.noise import NoiseModel, describe
from atbsn.options import Options
from atbsn.options.check import check_options
from atbsn.pictures import find_pictures, picture_size, to_tensor
from atbsn.utils.errors import UserError
from atbsn.utils.log import quiet

OnProgress = Callable[[float, str], None]
"""Is told the share that is done, 0 to 1, and what is being done."""

_PATCH, _LEAST_PATCH, _BATCH = 128, 32, 4
_LEARNING_RATE = 2e-4
_JUDGED = 8
"""Crops that are looked at to tell which weights are better."""
_NOISE_CROPS = 32
"""Crops that the noise is estimated from."""
_STRONG = 5.0
"""Level of the noise, grey values, above which ``start`` is a teacher (SIDD: 8 to 20) and below not (PolyU: 2 to 4)."""
_SHARE = 0.85
"""Of the time that is left when the noise is known, for learning; the rest is for judging."""


@dataclass(frozen=True)
class Adapted:
    """The better of the weights before and after.

    Attributes:
        net: in evaluation mode.
        metadata: for its weight file.
        noise: what was estimated, in a line.
        before, after: how the weights suit the pictures.
        iterations: that were learned.
    """

    net: Network
    metadata: dict[str, Any]
    noise: str
    before: Judgement
    after: Judgement
    iterations: int

    @property
    def helped(self) -> bool:
        """Whether the weights are new."""
        return self.after.is_better_than(self.before)

    @property
    def sentence(self) -> str:
        """How it went."""
        fault = self.after.fault(self.before)
        if fault is None:
            verdict = "The adapted weights suit these pictures better"
        else:
            verdict = f"The weights before are kept, since with the adapted ones {fault}"
        return f"{verdict}: before, it {self.before}; after {self.iterations} iterations, it {self.after}."


def adapt(
    pictures: Sequence[str | Path],
    minutes: float,
    start: Network,
    on_progress: OnProgress = lambda share, what: None,
    should_stop: Callable[[], bool] = lambda: False,
    metadata: dict[str, Any] | None = None,
    seed: int = 0,
) -> Adapted:
    """Learn the noise of ``pictures`` by ``RecorruptModel``, beginning with ``start``.

    Weak noise is learned by recorruption; of strong noise, most of which ``start`` takes off, it is the teacher.
    Whether it helped is told without a clean picture (``judge``).

    Args:
        pictures: noisy ones of one camera, files or folders, from one up.
        minutes: how long it may take, about.
        start: an ordinary network, which stays as it is; computed on the device where it is.
        should_stop: asked after every iteration; then the best until then is given.
        metadata: of ``start``, for the case that it is the better one.

    Raises:
        UserError: no picture can be used, or a network with a blind spot, which cannot be adapted so.
    """
    begin = time.monotonic()
    device = next(start.parameters()).device
    on_progress(0, "reading")
    with tempfile.TemporaryDirectory(prefix="atbsn_") as scratch, quiet():
        weights = Path(scratch, "start.pth")
        save_weights(weights, start.state_dict(), {"network": start.options, "denoise": start.denoise_settings})
        options = _options(pictures, start, weights, scratch, device, seed)
        on_progress(0, "estimating the noise")
        training = build_training(options, device, None)
        assert isinstance(training.model, RecorruptModel)
        end = begin + 60 * minutes
        total = max(1, int(_SHARE * (end - time.monotonic()) / _seconds_a_step(training.model)))
        training = replace(training, train=training.train.model_copy(update=_steps(total)))
        folders = RunFolders(options)
        for folder in (folders.models, folders.states):
            folder.mkdir(parents=True)
        watch = _Watch(end, total, on_progress, should_stop)
        build_trainer(training, folders).train(watch)
        on_progress(1, "judging")
        net, made = load_with_metadata(folders.models / "net_latest.pth")
        noise = training.model.noise
        assert isinstance(noise, NoiseModel)
    images = training.patches.images
    chosen = range(0, len(images), -(-len(images) // _JUDGED))
    crops = [to_tensor(images.crop(index, 0, 0, 256)) for index in chosen]
    net = net.to(device)
    before, after = judge([copy.deepcopy(start).eval(), net], crops, noise)
    result = Adapted(net, made, describe(noise), before, after, watch.done)
    if result.helped:
        return result
    kept = {"network": start.options, "denoise": start.denoise_settings} if metadata is None else metadata
    return Adapted(copy.deepcopy(start).eval(), kept, result.noise, before, after, watch.done)


class _Watch(StopSignal):
    """Stands where a command has its signals: asked after every iteration whether to stop, it tells how far it is."""

    def __init__(self, end: float, total: int, on_progress: OnProgress, should_stop: Callable[[], bool]) -> None:
        super().__init__()
        self.end, self.total, self.on_progress, self.should_stop = end, total, on_progress, should_stop
        self.done = 0

    def requested(self) -> bool:
        self.done += 1
        self.on_progress(self.done / self.total, f"learning, {self.done} of {self.total}")
        return self.should_stop() or time.monotonic() > self.end


def _options(
    pictures: Sequence[str | Path],
    start: Network,
    weights: Path,
    scratch: str,
    device: torch.device,
    seed: int,
) -> Options:
    patch, least = _patch(pictures, start)
    train = {
        "type": "PictureCrops", "paths": [str(path) for path in pictures], "least": least, "seed": seed,
        "patch_size": patch, "batch_size_per_gpu": _BATCH, "num_worker_per_gpu": 0,
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
            "num_crops": _NOISE_CROPS,
            "own_models": 1,
        },
        "path": {"root": scratch, "pretrain_network": str(weights)},
        "train": {
            **_steps(1),
            "optim": {"type": "Adam", "lr": _LEARNING_RATE, "betas": [0.9, 0.99]},
            "clip_grad_norm": 1.0,
            "precision": resolve_precision("auto", device),
        },
        "logger": {"print_freq": 2**30, "save_checkpoint_freq": 2**30, "use_tb_logger": False},
    }
    return check_options(raw, "adapt")


def _steps(total: int) -> dict[str, Any]:
    """The part of ``train`` that the number of iterations decides; weights are averaged over a twentieth."""
    return {"total_iter": total, "ema_decay": max(0.0, min(0.998, 1 - 20 / total))}


def _patch(pictures: Sequence[str | Path], net: Network) -> tuple[int, int]:
    """Side of the patches to learn from, and the shortest side that a picture must have for that."""
    multiple = RecorruptModel.patch_multiple(type(net), {})
    sides = [_LEAST_PATCH]
    for path in find_pictures([str(path) for path in pictures]).paths:
        with contextlib.suppress(UserError):  # it is told of when it is read
            sides.append(min(picture_size(path)))
    patch = max(multiple, min(_PATCH, max(sides)) // multiple * multiple)
    return patch, patch


def _seconds_a_step(model: RecorruptModel) -> float:
    """Seconds that an iteration takes when nothing else runs: the least of three, of which nothing stays."""
    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last)
    batch = {
        "noisy": torch.full((_BATCH, 3, _PATCH, _PATCH), 128.0, device=device),
        "index": torch.zeros(_BATCH, dtype=torch.long),
    }
    seconds = []
    for _ in range(4):
        begin = time.perf_counter()
        with autocast(resolve_precision("auto", device), device):
            model(batch, torch.zeros((), device=device))["loss"].backward()
        model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return 1.1 * min(seconds[1:])  # and the optimizer's step
