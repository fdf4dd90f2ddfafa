"""Checkpoints: weight files to use, and training states to resume from. Files are written completely or not at all."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from atbsn.archs.weights import save_weights
from atbsn.engine.training.loggers import LossMeter
from atbsn.engine.training.state import STATE, State, numbered, save_state, set_aside
from atbsn.models.base import Model
from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger
from atbsn.utils.seed import rng_state, set_rng_state

_WEIGHTS = re.compile(r"net_(\d+)\.pth")
"""Names of numbered weight files."""
_MOMENTS = {
    **dict.fromkeys((torch.optim.Adam, torch.optim.AdamW), ("step", "exp_avg", "exp_avg_sq")),
    torch.optim.SGD: (),
}
"""What each optimizer stores for a parameter."""


@dataclass(frozen=True)
class Learner:
    """Everything that changes during training, and so has to be saved to continue."""

    model: Model
    ema: AveragedModel | None
    optimizer: Optimizer
    scheduler: LambdaLR
    scaler: torch.amp.GradScaler
    meter: LossMeter


class Checkpointer:
    """Writes the checkpoints of a run. Every process has to call its methods; only rank 0 writes.

    The files are ``models/net_<iter>.pth`` and ``net_latest.pth`` (weights, averaged weights, metadata),
    ``net_best.pth``, and ``training_states/<iter>.state``, which has everything a resumed run needs, weights included.

    Args:
        models: folder of the weights.
        states: folder of the training states.
        metadata: metadata of every weight file, without the iteration.
        settings: the settings of the training, with which a resumed run compares its own.
        device: its random generators are saved.
        best_rule: how ``net_best`` is chosen, for its metadata; None: no best weights are kept.
        higher_is_better: whether a larger score is better.
        keep_last: number of numbered checkpoints to keep; None: all.
    """

    def __init__(
        self,
        models: Path,
        states: Path,
        metadata: dict[str, Any],
        settings: dict[str, Any],
        device: torch.device,
        best_rule: str | None,
        higher_is_better: bool = True,
        keep_last: int | None = None,
    ) -> None:
        self.models, self.states, self.metadata, self.settings = models, states, metadata, settings
        self.device, self.best_rule = device, best_rule
        self.higher_is_better, self.keep_last = higher_is_better, keep_last
        self.best_score: float | None = None
        self.latest: Path | None = None

    def save(self, iteration: int, learner: Learner, reported: bool = True) -> None:
        """Write weights and state of ``iteration``, and then remove old checkpoints.

        Args:
            iteration: number of iterations done.
            learner: what is saved.
            reported: whether the iteration has been logged and validated, if it is due for that.

        Raises:
            UserError: the disk is full or cannot be written. Earlier checkpoints stay.
        """
        processes = dist.gather({"generators": rng_state(self.device), "meter": learner.meter.state_dict()})
        path = self.models / f"net_{iteration}.pth"

        def write() -> None:
            self._save_weights((path, self.models / "net_latest.pth"), iteration, "last", learner)
            state = {
                "iteration": iteration,
                "reported": reported,
                "seed": self.metadata["seed"],
                "settings": json.dumps(self.settings),
                "params": learner.model.net.state_dict(),
                "method": learner.model.own_state(),
                "ema": learner.ema.state_dict() if learner.ema is not None else None,
                "optimizer": learner.optimizer.state_dict(),
                "scaler": learner.scaler.state_dict(),
                "best_score": self.best_score,
                "processes": processes,
            }
            save_state(self.states / f"{iteration}.state", state)
            if self.keep_last is not None:
                prune(self.models, self.states, self.keep_last, iteration)

        dist.on_main(write)
        self.latest = path

    def keep_best(self, iteration: int, score: float, learner: Learner) -> None:
        """Write ``net_best.pth`` if ``score`` is the best so far."""
        best = self.best_score
        if math.isnan(score):
            logger.warning("iter %d: the metric that chooses net_best is not a number; %s stays", iteration, best)
            return
        if best is not None and (score <= best if self.higher_is_better else score >= best):
            return
        self.best_score = score
        rule = f"best {self.best_rule}: {score:.4f}"
        dist.on_main(lambda: self._save_weights((self.models / "net_best.pth",), iteration, rule, learner))

    def restore(self, state: State, learner: Learner) -> None:
        """Load ``state``, random generators included. Settings such as the learning rate stay those of the options.

        Raises:
            UserError: something in the state does not fit the training it is meant for.
        """
        content = state.content
        try:
            learner.model.net.load_state_dict(content["params"])
            if learner.ema is not None:
                learner.ema.load_state_dict(content["ema"])
            if learner.scaler.is_enabled() and content["scaler"]:
                learner.scaler.load_state_dict(content["scaler"])
            _restore_optimizer(learner.optimizer, content["optimizer"])
            processes = content["processes"]
            if len(processes) == dist.world_size():
                own = processes[dist.rank()]
                set_rng_state(own["generators"], self.device)
                learner.meter.load_state_dict(own["meter"], self.device)
        except Exception as error:  # a file may hold anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())  # torch's message has several lines
            raise UserError(
                f"{state.path}: does not fit this training ({reason[:400]}); resume from another state"
            ) from error
        scheduler = learner.scheduler
        scheduler.last_epoch = content["iteration"]
        for group, base, rate in zip(
            scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
        ):
            group["lr"] = base * rate(scheduler.last_epoch)
        self.best_score = content["best_score"]
        self.latest = state.path
        dist.on_main(lambda: set_aside(self.states, content["iteration"]))

    def _save_weights(self, paths: tuple[Path, ...], iteration: int, rule: str, learner: Learner) -> None:
        averaged = learner.ema.module.state_dict() if learner.ema is not None else None
        metadata = {**self.metadata, "iteration": iteration, "rule": rule}
        for path in paths:
            save_weights(path, learner.model.net.state_dict(), metadata, averaged)


def prune(models: Path, states: Path, keep_last: int, iteration: int) -> None:
    """Remove all but the ``keep_last`` newest checkpoints up to ``iteration``, which has to be on disk already."""
    for folder, pattern in ((models, _WEIGHTS), (states, STATE)):
        done = sorted(entry for entry in numbered(folder, pattern) if entry[0] <= iteration)
        for _, path in done[:-keep_last]:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("%s: cannot be removed (%s); remove it by hand", path, error.strerror)


def _restore_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load the moments from ``state``, and keep the optimizer's own settings (learning rate, betas, ...)."""
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
    for parameter, moments in optimizer.state.items():
        for name in {*_MOMENTS[type(optimizer)], *moments}:
            shape = () if name == "step" else tuple(parameter.shape)
            if tuple(torch.as_tensor(moments[name]).shape) != shape:
                raise ValueError(f"the optimizer's {name} is not of shape {shape}")
