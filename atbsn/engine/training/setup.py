"""Build a training from checked options. Only ``build_trainer`` writes files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import nn

from atbsn.data import build_dataset
from atbsn.data.base import ImageSet
from atbsn.data.loader import SampleNumbers, train_loader
from atbsn.data.patches import PatchDataset
from atbsn.engine.build import build_measuring, build_method, build_network, build_sets
from atbsn.engine.evaluation.evaluator import columns_of
from atbsn.engine.evaluation.validation import Measuring
from atbsn.engine.inference.denoiser import Denoiser, build_denoiser
from atbsn.engine.precision import autocast
from atbsn.engine.training.checkpoint import Checkpointer, Learner
from atbsn.engine.training.experiment import RunFolders
from atbsn.engine.training.finite import FiniteGuard
from atbsn.engine.training.loggers import LossMeter, RunLogger
from atbsn.engine.training.optimization import build_ema, build_optimizer, build_scheduler
from atbsn.engine.training.state import State, compare_settings, load_state, newest_state
from atbsn.engine.training.trackers import TensorBoard, Tracker, WeightsAndBiases, flatten
from atbsn.engine.training.trainer import Schedule, Trainer
from atbsn.engine.training.validation import TrainingValidation
from atbsn.metrics import ESTIMATED_PSNR
from atbsn.models.base import Model
from atbsn.options import Options
from atbsn.options.schema import Component, Train
from atbsn.registry.build import with_defaults
from atbsn.utils import dist
from atbsn.utils.errors import UserError, in_a_phrase
from atbsn.utils.log import logger
from atbsn.utils.seed import draw_seed, seed_everything


@dataclass(frozen=True)
class Training:
    """Everything that a training needs, built and checked before any file is written.

    Attributes:
        network, method, train: the sections of the options that a training must have.
        settings: its settings in plain values, with which a resumed run compares its own.
        state: the state that it continues from; None: it starts anew.
    """

    options: Options
    network: Component
    method: Component
    train: Train
    device: torch.device
    seed: int
    model: Model
    patches: PatchDataset
    val_sets: dict[str, ImageSet]
    denoiser: Denoiser
    measuring: Measuring
    settings: dict[str, Any]
    state: State | None

    @property
    def start_iter(self) -> int:
        """Number of iterations already done."""
        return 0 if self.state is None else self.state.content["iteration"]

    @property
    def reported(self) -> bool:
        """Whether the last of these iterations has been logged and validated."""
        return True if self.state is None else self.state.content["reported"]


def find_state(options: Options, auto_resume: bool) -> State | None:
    """The training state to continue from: with ``auto_resume`` the newest readable one, otherwise the one named.

    If ``torchrun`` restarted any process after a failure, all processes resume without ``auto_resume``. On a machine
    that came back, processes are started for the first time, so each process alone could not tell.

    Raises:
        UserError: the named state, or every state of the run, cannot be read.
    """
    named = None if options.path.resume_state is None else Path(options.path.resume_state)
    if not auto_resume and not any(dist.gather(dist.restarted())):
        return None if named is None else load_state(named)
    newest: State | None = None

    def look() -> None:  # rank 0 alone: elsewhere a file may not be visible yet
        nonlocal newest
        newest = newest_state(Path(options.path.root) / "experiments" / options.name / "training_states")

    dist.on_main(look)
    path = dist.broadcast(None if newest is None else newest.path) or named
    if path is None:
        logger.info("no training state of '%s' yet; starting anew", options.name)
        return None
    logger.info("resuming from %s", path)
    return load_state(path) if newest is None else newest


def is_finished(state: State, options: Options) -> bool:
    """Whether ``state`` is the end of the training."""
    left = options.train.total_iter - state.content["iteration"] if options.train is not None else 1
    return left < 0 or (left == 0 and state.content["reported"])


def build_training(options: Options, device: torch.device, state: State | None) -> Training:
    """Build the method, the training patches, the denoiser and the validation sets. Nothing is written.

    Raises:
        UserError: 'train' or 'datasets.train' is missing, something that the options name cannot be built or read, or
            ``state`` belongs to another training.
    """
    train, network, method = options.train, options.network, options.model
    if train is None or network is None or method is None or "train" not in options.datasets:
        needed = {
            "train": train, "datasets.train": options.datasets.get("train"), "network": network, "model": method,
        }  # fmt: skip
        missing = ", ".join(key for key, value in needed.items() if value is None)
        raise UserError(
            f"{options.name}: {missing}: missing; training needs it (atbsn options list names methods and data)"
        )
    autocast(train.precision, device)
    captures(train, device)
    seed = options.manual_seed
    if seed is None:
        seed = dist.broadcast(draw_seed()) if state is None else state.content["seed"]
    seed_everything(seed)
    net, _ = build_network(options)
    model = build_method(options, net).to(device)
    loader = options.loader()
    trained_for = model.denoise_settings()
    denoiser = build_denoiser(net, device, options.inference("val"), trained_for, loader.patch_size, capture=False)
    val_sets = build_sets(options, "val") if options.val.val_freq else {}
    if options.val.val_freq and not val_sets:
        logger.info("nothing is validated: no entry of datasets begins with 'val'")
    if val_sets and options.val.k is not None:
        denoiser.family(options.val.k)  # raises if the network does not accept these blind spots
    measuring = build_measuring(options)
    _check_best_metric(options.val.best_metric, val_sets, measuring)
    images = build_dataset(options.dataset("train"))
    multiple = model.patch_multiple(
        type(net), with_defaults(type(model), {key: value for key, value in method.items() if key != "type"})
    )
    patches = PatchDataset(
        images, loader.patch_size, loader.use_flip, loader.use_rot, seed, multiple, model.picture_channels
    )
    if state is None:
        model.prepare(images, seed)
    else:
        _restore_method(model, state)
    settings = _settings(options, train, method, model, patches)
    if state is not None:
        compare_settings(state, settings)
    return Training(
        options, network, method, train, device, seed, model, patches, val_sets, denoiser, measuring, settings, state,
    )  # fmt: skip


def build_trainer(training: Training, experiment: RunFolders) -> Trainer:
    """Build the training loop with everything that it calls, and load the state if there is one."""
    options, train, model, device = training.options, training.train, training.model, training.device
    lay_out(model, train, device)
    checkpointer = _build_checkpointer(training, experiment)
    learner = _build_learner(training)
    seed_everything(training.seed + dist.rank())
    if training.state is not None:
        checkpointer.restore(training.state, learner)
    logger.info(
        "%s: %s with %s, %s parameters, on %d x %s, seed %d, iterations %d to %d",
        options.name, training.method["type"], training.network["type"],
        f"{sum(p.numel() for p in model.net.parameters()):,}", dist.world_size(), device.type, training.seed,
        training.start_iter, train.total_iter,
    )  # fmt: skip
    first_iter = training.start_iter + 1 if training.reported else training.start_iter
    run_logger = RunLogger(experiment.folder, _build_trackers(training, experiment), first_iter)
    validate = TrainingValidation(
        training.denoiser, learner.ema, training.val_sets, training.measuring, options.val.best_metric, run_logger,
        experiment.visualization, train.total_iter, options.val.k,
    )  # fmt: skip
    guard = FiniteGuard(train.skip_nonfinite, training.patches.images.key, lambda: checkpointer.latest, learner.scaler)
    if compiles(train, device):
        model.compile(dynamic=False)  # patches have one size
    schedule = Schedule(
        train.total_iter, training.start_iter, training.reported, train.accum_iter, train.clip_grad_norm,
        train.precision, captures(train, device), options.logger.print_freq, options.logger.save_checkpoint_freq,
        options.val.val_freq if training.val_sets else None,
    )  # fmt: skip
    batches = iter(_build_loader(training))
    return Trainer(learner, batches, guard, checkpointer, run_logger, validate, schedule, device)


def lay_out(model: Model, train: Train, device: torch.device) -> None:
    """Put the weights, and with them every batch, into the memory layout that ``train.channels_last`` asks for.

    The choice of ``auto`` is a rule and not a measurement, so that a resumed training rounds as it did before. On a
    CPU, dilated convolutions are slower channels last in fp32, and with bf16 the gradients of weights of some widths
    are NaN (a fault of oneDNN).
    """
    convolutions = [module for module in model.net.modules() if isinstance(module, nn.Conv2d)]
    dilated = device.type == "cpu" and any(max(module.dilation) > 1 for module in convolutions)
    unfit = dilated and (train.precision == "fp32" or any(map(_is_odd, convolutions)))
    if train.channels_last is True or (train.channels_last == "auto" and not unfit):
        model.to(memory_format=torch.channels_last)
    else:
        model.register_forward_pre_hook(_contiguous)


def compiles(train: Train, device: torch.device) -> bool:
    """Whether the losses are compiled.

    Iterations can be compiled and captured as a CUDA graph, too (``captures``). The first iterations compile, and the
    compiled code is captured after that (``engine.training.graph``).
    """
    return train.compile is True or (train.compile == "auto" and device.type == "cuda")


def captures(train: Train, device: torch.device) -> bool:
    """Whether iterations are captured as a CUDA graph; see ``compiles``.

    Raises:
        UserError: ``train.cuda_graph`` is true although they cannot be.
    """
    obstacles = {
        "it needs a GPU": device.type != "cuda",
        "with several processes gradients are exchanged while they are computed": dist.world_size() > 1,
        "train.skip_nonfinite looks at every iteration": train.skip_nonfinite > 0,
    }
    obstacle = next((reason for reason, holds in obstacles.items() if holds), None)
    if train.cuda_graph is True and obstacle is not None:
        raise UserError(f"train.cuda_graph: true: {obstacle}; use auto or false")
    return train.cuda_graph is not False and obstacle is None


def _is_odd(convolution: nn.Conv2d) -> bool:
    """Whether oneDNN's gradient of a dilated convolution of these widths may be NaN in bf16 channels last."""
    return any(width > 8 and width % 16 for width in (convolution.in_channels, convolution.out_channels))


def _contiguous(model: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """A hook before ``forward`` that makes the tensors of a batch contiguous (not channels last)."""
    batch, *others = arguments
    return ({name: tensor.contiguous() for name, tensor in batch.items()}, *others)


def _check_best_metric(best: str | None, val_sets: Mapping[str, ImageSet], measuring: Measuring) -> None:
    """Check that the first set, which chooses ``net_best``, is measured by ``val.best_metric``."""
    for name, images in list(val_sets.items())[:1]:
        known = columns_of(images, measuring.metrics)
        if best is not None and best not in known:
            has = "references" if images.has_clean else "no references"
            use = ", ".join(measuring.metrics) if images.has_clean else ESTIMATED_PSNR
            raise UserError(f"val.best_metric: '{best}': not measured on datasets.{name}, which has {has}; use {use}")


def _restore_method(model: Model, state: State) -> None:
    try:
        model.load_own_state(state.content.get("method", {}))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{state.path}: does not fit {type(model).__name__} ({in_a_phrase(error)})") from None


def _build_trackers(training: Training, experiment: RunFolders) -> list[Tracker]:
    options = training.options
    hparams = flatten(training.settings)
    trackers: list[Tracker] = [TensorBoard(experiment.tensorboard, hparams)] if options.logger.use_tb_logger else []
    if options.logger.wandb is not None:
        trackers.append(WeightsAndBiases(options.logger.wandb, options.name, experiment.folder, hparams))
    return trackers


def _build_learner(training: Training) -> Learner:
    train, net = training.train, training.model.net
    optimizer = build_optimizer(train, net)
    scaler = torch.amp.GradScaler(training.device.type, enabled=train.precision == "fp16")
    return Learner(
        training.model, build_ema(train, net), optimizer, build_scheduler(train, optimizer), scaler, LossMeter()
    )


def _build_loader(training: Training) -> torch.utils.data.DataLoader[dict[str, torch.Tensor]]:
    loader, train = training.options.loader(), training.train
    numbers = SampleNumbers(
        batch_size=loader.batch_size_per_gpu, start_iter=training.start_iter, total_iter=train.total_iter,
        accumulate=train.accum_iter, rank=dist.rank(), world_size=dist.world_size(),
    )  # fmt: skip
    pin_memory = training.device.type == "cuda"
    return train_loader(training.patches, numbers, num_workers=loader.num_worker_per_gpu, pin_memory=pin_memory)


def _build_checkpointer(training: Training, experiment: RunFolders) -> Checkpointer:
    options, model = training.options, training.model
    loader, best = options.loader(), options.val.best_metric
    metadata = {
        "network": model.net.options,
        "model": training.method["type"],
        "denoise": model.denoise_settings(),
        **model.metadata(),
        **({"frozen_sha256": model.frozen_sha256()} if model.frozen else {}),
        "dataset": options.datasets["train"]["type"],
        "patch_size": loader.patch_size,
        "batch_size": loader.batch_size_per_gpu * dist.world_size() * training.train.accum_iter,
        "seed": training.seed,
    }
    rule, higher = None, True
    for name, images in list(training.val_sets.items())[:1]:
        if best is not None:
            column = columns_of(images, training.measuring.metrics)[best]
            rule, higher = f"{column.protocol} on {name}", column.higher_is_better is not False
    return Checkpointer(
        experiment.models, experiment.states, metadata, training.settings, training.device, rule, higher,
        options.logger.keep_last,
    )  # fmt: skip


def _settings(options: Options, train: Train, method: Component, model: Model, patches: PatchDataset) -> dict[str, Any]:
    """The settings of a training in plain values. A resumed run is compared by them with the run that it continues."""
    names = "\n".join(patches.images.key(index) for index in range(len(patches)))
    pictures = f"{len(patches)} (checksum of their names {crc32(names.encode()):08x})"
    data = {key: value for key, value in options.datasets["train"].items() if key != "num_worker_per_gpu"}
    settings = {
        "manual_seed": patches.seed,
        "network": model.net.options,
        "model": {**method, **model.metadata(), "frozen_sha256": model.frozen_sha256()},
        "datasets.train": {**data, "pictures": pictures},
        "train": train.in_iterations().model_dump(mode="json"),
        "processes": dist.world_size(),
    }
    return json.loads(json.dumps(settings))
