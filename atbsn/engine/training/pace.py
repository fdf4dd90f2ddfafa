"""Trainings of a given number of minutes: the time of an iteration is measured before they start."""

import copy
import logging
import math
from dataclasses import replace
from tempfile import TemporaryDirectory

import torch

from atbsn.engine.training.experiment import RunFolders
from atbsn.engine.training.setup import Training, build_trainer, build_training
from atbsn.engine.training.state import State
from atbsn.options import Options
from atbsn.options.schema import Train
from atbsn.utils import dist
from atbsn.utils.durations import rough_duration
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger, quiet

_WATCHED = 5.0
"""Seconds for which iterations are timed, after a first one, which is slower than the others. Chosen by hand."""


def within_minutes(options: Options, minutes: float, device: torch.device, state: State | None) -> Options:
    """``options`` with as many iterations as this machine makes in ``minutes``, and a schedule of the same length.

    To know the time of an iteration, a few are made and thrown away. Validations take additional time. With a
    ``state``, the training keeps the length that it was started with, so that it continues exactly.

    Raises:
        UserError: there are several processes, or the training cannot be built.
    """
    if options.train is None:
        return options  # ``build_training`` reports what is missing
    if state is not None:
        total_iter = state.total_iter()
        logger.info("%d iterations in all, as when it was started (--minutes is for new trainings)", total_iter)
        return options.model_copy(update={"train": resized(options.train, total_iter)})
    if dist.world_size() > 1:
        raise UserError("--minutes: for one process; set train.total_iter instead")
    each = _seconds_an_iteration(options, device)
    total_iter = _two_digits(60 * minutes / each)
    logger.info("%.2g s an iteration: %d iterations take about %s", each, total_iter, rough_duration(each * total_iter))
    return options.model_copy(update={"train": resized(options.train, total_iter)})


def seconds_an_iteration(training: Training, folders: RunFolders, watched: float = _WATCHED) -> float:
    """Measure the seconds that an iteration of ``training`` takes, for ``watched`` seconds after a first one.

    The iterations are made with a copy of the model: ``training`` stays as it is, and nothing is written to
    ``folders``.
    """
    trial = replace(training, model=copy.deepcopy(training.model))
    return build_trainer(trial, folders).pace(watched)


def resized(train: Train, total_iter: int) -> Train:
    """``train`` with another number of iterations. Lengths in its schedule are scaled with it."""
    ratio = total_iter / train.total_iter

    def scaled(length: float) -> float:
        return length and max(1, round(length * ratio)) if isinstance(length, int) else length  # a share stays

    return train.model_copy(update={"total_iter": total_iter, "scheduler": train.scheduler.with_lengths(scaled)})


def _seconds_an_iteration(options: Options, device: torch.device) -> float:
    """Measure the seconds of an iteration with a trial training, which leaves no files and logs no warnings."""
    with TemporaryDirectory() as folder, quiet(logging.ERROR):
        changes = {
            "logger": options.logger.model_copy(update={"use_tb_logger": False, "wandb": None}),
            "val": options.val.model_copy(update={"val_freq": None}),
            "path": options.path.model_copy(update={"root": folder, "resume_state": None}),
        }
        trial = options.model_copy(update=changes)
        return seconds_an_iteration(build_training(trial, device, None), RunFolders(trial))


def _two_digits(number: float) -> int:
    """``number`` rounded down to two digits, but at least 1."""
    if number < 1:
        return 1
    unit = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return int(number // unit * unit)
