"""Checkpoints: weight files for people, training states for resuming. Every file is whole or not there."""

import io
import re
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from atbsn.archs.weights import save_weights
from atbsn.models.base import Model
from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_atomically
from atbsn.utils.log import logger
from atbsn.utils.seed import rng_state, set_rng_state

_STATE = re.compile(r"(\d+)\.state")
_WEIGHTS = re.compile(r"net_(\d+)\.pth")


class Checkpointer:
    """Writes the checkpoints of a run; on rank 0, though every process has to call it.

    ``models/net_<iter>.pth`` and ``net_latest.pth`` (weights, averaged weights, metadata), ``net_best.pth``, and
    ``training_states/<iter>.state``, which holds everything a resumed run needs, weights too, in one file.

    Args:
        models: folder of the weights.
        states: folder of the training states.
        metadata: what every weight file says beside its iteration.
        device: whose generators are saved.
        best_rule: how ``net_best`` is chosen, for its metadata; None keeps no best.
        higher_is_better: whether a larger score is better.
        keep_last: how many numbered checkpoints stay; None: all.
    """

    def __init__(
        self,
        models: Path,
        states: Path,
        metadata: dict[str, Any],
        device: torch.device,
        best_rule: str | None,
        higher_is_better: bool = True,
        keep_last: int | None = None,
    ) -> None:
        self.models, self.states, self.metadata, self.device = models, states, metadata, device
        self.best_rule, self.higher_is_better, self.keep_last = best_rule, higher_is_better, keep_last
        self.best_score: float | None = None
        self.latest: Path | None = None

    def save(
        self,
        iteration: int,
        model: Model,
        ema: AveragedModel | None,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        scaler: torch.amp.GradScaler,
    ) -> None:
        """Write weights and state of ``iteration``, then prune."""
        generators = dist.gather(rng_state(self.device))
        path = self.models / f"net_{iteration}.pth"
        if dist.is_main():
            self._save_weights((path, self.models / "net_latest.pth"), iteration, "last", model, ema)
            state = {
                "iteration": iteration,
                "seed": self.metadata["seed"],
                "network": self.metadata["network"],
                "params": model.net.state_dict(),
                "ema": ema.state_dict() if ema is not None else None,
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "scaler": scaler.state_dict(),
                "best_score": self.best_score,
                "generators": generators,
            }
            save_state(self.states / f"{iteration}.state", state)
            prune(self.models, self.states, self.keep_last)
        self.latest = path

    def keep_best(self, iteration: int, score: float, model: Model, ema: AveragedModel | None) -> None:
        """Write ``net_best.pth`` if ``score`` is the best so far."""
        best = self.best_score
        if best is not None and (score <= best if self.higher_is_better else score >= best):
            return
        self.best_score = score
        if dist.is_main():
            rule = f"best {self.best_rule}: {score:.4f}"
            self._save_weights((self.models / "net_best.pth",), iteration, rule, model, ema)

    def restore(
        self,
        state: dict[str, Any],
        model: Model,
        ema: AveragedModel | None,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        scaler: torch.amp.GradScaler,
    ) -> None:
        """Continue from ``state``, generators included.

        Raises:
            UserError: the state belongs to a run with other options.
        """
        if state["network"] != self.metadata["network"]:
            raise UserError(
                f"resumed state: its network is {state['network']}, the options say {self.metadata['network']}; "
                "resume with the options it was made with"
            )
        if (state["ema"] is None) != (ema is None):
            raise UserError("resumed state: train.ema_decay was switched on or off; resume with the same options")
        try:
            model.net.load_state_dict(state["params"])
            optimizer.load_state_dict(state["optimizer"])
            scheduler.load_state_dict(state["scheduler"])
            scaler.load_state_dict(state["scaler"])
            if ema is not None:
                ema.load_state_dict(state["ema"])
        except (ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"resumed state: does not fit these options ({error}); resume with its own") from None
        self.best_score = state["best_score"]
        generators = state["generators"]
        if dist.rank() < len(generators):
            set_rng_state(generators[dist.rank()], self.device)

    def _save_weights(
        self, paths: tuple[Path, ...], iteration: int, rule: str, model: Model, ema: AveragedModel | None
    ) -> None:
        averaged = ema.module.state_dict() if ema is not None else None
        metadata = {**self.metadata, "iteration": iteration, "rule": rule}
        for path in paths:
            save_weights(path, model.net.state_dict(), metadata, averaged)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state: tensors, numbers and strings in lists and dictionaries, nothing else."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def load_state(path: Path) -> dict[str, Any]:
    """Read a training state; nothing in it is executed.

    Raises:
        UserError: the file is missing, torn, or not a training state.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such training state; check path.resume_state")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state["iteration"], state["optimizer"], state["params"]
    except Exception as error:  # a damaged file can fail anywhere in the reader, with any exception
        raise UserError(
            f"{path}: not a readable training state ({type(error).__name__}); resume from another one"
        ) from None
    return state


def newest_state(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest readable state in ``folder``; torn ones are named and passed over."""
    for _, path in sorted(_numbered(folder, _STATE), reverse=True):
        try:
            return path, load_state(path)
        except UserError as error:
            logger.warning("skipped: %s", error)
    return None


def prune(models: Path, states: Path, keep_last: int | None) -> None:
    """Remove all but the ``keep_last`` newest numbered checkpoints. Call it when the newest is on disk."""
    if keep_last is None:
        return
    for folder, pattern in ((models, _WEIGHTS), (states, _STATE)):
        for _, path in sorted(_numbered(folder, pattern))[:-keep_last]:
            path.unlink()


def _numbered(folder: Path, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
    matches = ((pattern.fullmatch(path.name), path) for path in folder.glob("*"))
    return [(int(match[1]), path) for match, path in matches if match]
