"""From checked options to the objects of a run. Nothing is written here but by ``build_trainer``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import torch

from atbsn.archs import build_arch
from atbsn.archs.base import Network
from atbsn.archs.weights import load_weights, load_with_metadata
from atbsn.data import build_dataset
from atbsn.data.base import ImageSet
from atbsn.data.loader import train_loader
from atbsn.data.patches import PatchDataset
from atbsn.engine.checkpoint import Checkpointer, Learner
from atbsn.engine.experiment import Experiment
from atbsn.engine.finite import FiniteGuard
from atbsn.engine.loggers import LossMeter, RunLogger
from atbsn.engine.optimization import autocast, build_ema, build_optimizer, build_scheduler
from atbsn.engine.state import State, compare_settings, load_state, newest_state
from atbsn.engine.tiling import Tiler
from atbsn.engine.trainer import Trainer
from atbsn.engine.validation import Protocol, TrainingValidation
from atbsn.metrics import Metric, build_metric
from atbsn.models import build_model
from atbsn.models.base import Model
from atbsn.models.bsn import BSNModel
from atbsn.options import Options
from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger
from atbsn.utils.seed import draw_seed, seed_everything


@dataclass(frozen=True)
class Training:
    """All that a training is made of before its folder is opened."""

    seed: int
    model: Model
    patches: PatchDataset
    val_sets: dict[str, ImageSet]
    protocol: Protocol
    settings: dict[str, Any]
    state: State | None


def find_state(options: Options, auto_resume: bool) -> State | None:
    """The training state to continue from: with ``auto_resume`` the run's newest readable one, else the one named.

    A process that ``torchrun`` starts in place of one that died resumes without being told.

    Raises:
        UserError: the state that is named, or every state of the run, cannot be read.
    """
    named = None if options.path.resume_state is None else Path(options.path.resume_state)
    if not auto_resume and not dist.restarted():
        return None if named is None else load_state(named)
    found: list[State | None] = [None]  # by rank 0 alone: elsewhere a file may not be visible yet
    folder = Path(options.path.root) / "experiments" / options.name / "training_states"
    dist.on_main(lambda: found.append(newest_state(folder)))
    path = dist.broadcast(found[-1] and found[-1].path) or named
    if path is None:
        logger.info("no training state of '%s' yet; starting anew", options.name)
        return None
    logger.info("resuming from %s", path)
    return found[-1] or load_state(path)


def is_finished(state: State, options: Options) -> bool:
    """Whether nothing is left to do after ``state``."""
    left = options.train.total_iter - state.content["iteration"] if options.train is not None else 1
    return left < 0 or (left == 0 and state.content["reported"])


def build_method(options: Options, device: torch.device) -> tuple[Model, dict[str, Any]]:
    """The method with its network on ``device``, and the metadata of the weights it was given.

    Without ``network`` it is the one the weights belong to; without ``model`` the network denoises as it does by
    itself, a blind-spot network with the k its weights are meant for.
    """
    weights = options.path.pretrain_network
    if options.network is None:
        net, metadata = load_with_metadata(weights)
    else:
        net = build_arch(options.network)
        metadata = load_weights(net, weights) if weights is not None else {}
    if options.model is not None:
        model = build_model(options.model, net)
        if weights is not None:
            load_weights(net, weights)  # once more: the method may have put first weights of its own there
    else:
        model = BSNModel(net, k_test=metadata.get("k", 3)) if net.blind_spots else Model(net)
    return model.to(device), metadata


def build_sets(options: Options, kind: Literal["val", "test"]) -> dict[str, ImageSet]:
    """The data sets for validation or for test.py, by name."""
    return {name: build_dataset(options.dataset(name)) for name in options.dataset_names(kind)}


def build_metrics(options: Options) -> dict[str, Metric]:
    """The metrics of ``val.metrics``, by name."""
    return {name: build_metric(entry) for name, entry in options.val.metrics.items()}


def build_protocol(options: Options, device: torch.device, net: Network) -> Protocol:
    """How pictures are validated; ``net`` says which overlap of tiles suits it."""
    val = options.val
    overlap = net.tile_overlap if val.overlap == "auto" else val.overlap
    tiler = Tiler(val.tile, overlap, device=device)
    return Protocol(build_metrics(options), tiler, val.precision, val.save_img)


def build_training(options: Options, device: torch.device, state: State | None) -> Training:
    """Method, patches and validation sets; reads much, writes nothing.

    Raises:
        UserError: 'train' or 'datasets.train' is missing, anything they name cannot be had, or ``state`` belongs to
            another training.
    """
    needed = {
        "train": options.train,
        "datasets.train": options.datasets.get("train"),
        "network": options.network,
        "model": options.model,
    }
    if None in needed.values():
        missing = ", ".join(key for key, value in needed.items() if value is None)
        raise UserError(f"{options.name}: {missing}: missing; training needs it (see options/base/)")
    for precision in (options.train.precision, options.val.precision):
        autocast(precision, device)
    seed = options.manual_seed
    if seed is None:
        seed = dist.broadcast(draw_seed()) if state is None else state.content["seed"]
    seed_everything(seed)
    model, _ = build_method(options, device)
    protocol = build_protocol(options, device, model.net)
    val_sets = build_sets(options, "val") if options.val.val_freq else {}
    if options.val.val_freq and not val_sets:
        logger.info("nothing is validated: no entry of datasets begins with 'val'")
    for name, images in val_sets.items():
        if not images.has_clean:
            raise UserError(f"datasets.{name}: {type(images).__name__} has no references; name a set that has")
    loader = options.loader()
    images = build_dataset(options.dataset("train"))
    patches = PatchDataset(images, loader.patch_size, loader.use_flip, loader.use_rot, seed)
    settings = _settings(options, model, patches)
    if state is not None:
        compare_settings(state, settings)
    return Training(seed, model, patches, val_sets, protocol, settings, state)


def build_trainer(options: Options, device: torch.device, training: Training, experiment: Experiment) -> Trainer:
    """The training loop with everything it calls, continued from the state if there is one."""
    train, model, state = options.train, training.model, training.state
    if train.channels_last:
        model.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(train, model.net)
    scheduler = build_scheduler(train, optimizer)
    ema = build_ema(train, model.net)
    scaler = torch.amp.GradScaler(device.type, enabled=train.precision == "fp16")
    checkpointer = _build_checkpointer(options, device, training, experiment)
    start_iter, reported = (state.content["iteration"], state.content["reported"]) if state is not None else (0, True)
    seed_everything(training.seed + dist.rank())
    learner = Learner(model, ema, optimizer, scheduler, scaler, LossMeter())
    if state is not None:
        checkpointer.restore(state, learner)
    logger.info(
        "%s: %s with %s, %s parameters, on %d x %s, seed %d, iterations %d to %d",
        options.name, options.model["type"], options.network["type"],
        f"{sum(p.numel() for p in model.net.parameters()):,}", dist.world_size(), device.type, training.seed,
        start_iter, train.total_iter,
    )  # fmt: skip
    run_logger = RunLogger(
        experiment.folder, experiment.tensorboard if options.logger.use_tb_logger else None,
        start_iter + 1 if reported else start_iter,
    )  # fmt: skip
    validate = TrainingValidation(
        model, ema, training.val_sets, training.protocol, options.val.best_metric, run_logger, experiment.visualization,
        train.total_iter,
    )  # fmt: skip
    guard = FiniteGuard(train.skip_nonfinite, training.patches.images.key, lambda: checkpointer.latest, scaler)
    if train.compile is True or (train.compile == "auto" and device.type == "cuda"):
        model.compile()
    loader = options.loader()
    batches = train_loader(
        training.patches, loader.batch_size_per_gpu, loader.num_worker_per_gpu, start_iter, train.total_iter,
        train.accum_iter, dist.rank(), dist.world_size(), pin_memory=device.type == "cuda",
    )  # fmt: skip
    return Trainer(
        learner, iter(batches), guard, checkpointer, run_logger, validate, device=device, start_iter=start_iter,
        reported=reported, total_iter=train.total_iter, accum_iter=train.accum_iter,
        clip_grad_norm=train.clip_grad_norm, precision=train.precision, print_freq=options.logger.print_freq,
        checkpoint_freq=options.logger.save_checkpoint_freq,
        val_freq=options.val.val_freq if training.val_sets else None,
    )  # fmt: skip


def _build_checkpointer(
    options: Options, device: torch.device, training: Training, experiment: Experiment
) -> Checkpointer:
    loader, best, metrics = options.loader(), options.val.best_metric, training.protocol.metrics
    metadata = {
        "network": training.model.net.options,
        "model": options.model["type"],
        **training.model.metadata(),
        "dataset": options.datasets["train"]["type"],
        "patch_size": loader.patch_size,
        "batch_size": loader.batch_size_per_gpu * dist.world_size() * options.train.accum_iter,
        "seed": training.seed,
    }
    rule = None if best is None else f"{metrics[best].protocol} on {next(iter(training.val_sets), None)}"
    higher = best is None or metrics[best].higher_is_better
    return Checkpointer(
        experiment.models, experiment.states, metadata, training.settings, device, rule, higher,
        options.logger.keep_last,
    )  # fmt: skip


def _settings(options: Options, model: Model, patches: PatchDataset) -> dict[str, Any]:
    """What shapes a training, in plain values: a resumed run is compared with the one it continues."""
    names = "\n".join(patches.images.key(index) for index in range(len(patches)))
    pictures = f"{len(patches)} (checksum of their names {crc32(names.encode()):08x})"
    data = {key: value for key, value in options.datasets["train"].items() if key != "num_worker_per_gpu"}
    settings = {
        "manual_seed": patches.seed,
        "network": model.net.options,
        "model": {**options.model, **model.metadata()},
        "datasets.train": {**data, "pictures": pictures},
        "train": options.train.model_dump(mode="json"),
        "processes": dist.world_size(),
    }
    return json.loads(json.dumps(settings))
