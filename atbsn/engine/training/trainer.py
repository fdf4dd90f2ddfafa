"""The training loop: fetch, step, log, save, validate. Nothing of any method is in here."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from atbsn.data.device import on_device
from atbsn.engine.training.checkpoint import Checkpointer, Learner
from atbsn.engine.training.finite import FiniteGuard
from atbsn.engine.training.graph import CudaRecorder, GraphedStep
from atbsn.engine.training.interrupt import StopSignal
from atbsn.engine.training.loggers import RunLogger
from atbsn.engine.training.step import TrainingStep
from atbsn.utils.log import logger, progress_bar
from atbsn.utils.types import Precision


@dataclass(frozen=True)
class Schedule:
    """How long, how often and in which steps.

    Attributes:
        start_iter: iterations already done.
        reported: whether the last of them has been logged and validated.
        total_iter: iterations in all.
        accum_iter: micro-batches an iteration.
        clip_grad_norm: largest norm of the gradient, or None.
        precision: type of the forward pass.
        cuda_graph: whether an iteration is captured and launched as one; on a GPU, one process, nothing skipped.
        print_freq, checkpoint_freq, val_freq: iterations between; ``val_freq`` may be None.
    """

    total_iter: int
    start_iter: int = 0
    reported: bool = True
    accum_iter: int = 1
    clip_grad_norm: float | None = None
    precision: Precision = "fp32"
    cuda_graph: bool = False
    print_freq: int = 100
    checkpoint_freq: int = 2000
    val_freq: int | None = None


class Trainer:
    """The loop: makes the steps of a training, and logs, validates and saves where it is due.

    Args:
        learner: the method, its optimizer, and whatever else changes.
        batches: raw micro-batches of ``atbsn.data.loader``, ``accum_iter`` for every iteration that is left.
        guard: stops, or skips, when a loss or gradient is not finite.
        checkpointer: writes weights and states.
        run_logger: writes numbers.
        validate: called with the iteration; returns the value of the metric that chooses ``net_best``, if any.
        schedule: how long and how often.
        device: where it computes.
    """

    def __init__(
        self,
        learner: Learner,
        batches: Iterator[dict[str, Tensor]],
        guard: FiniteGuard,
        checkpointer: Checkpointer,
        run_logger: RunLogger,
        validate: Callable[[int], float | None],
        schedule: Schedule,
        device: torch.device,
    ) -> None:
        self.learner, self.model, self.batches = learner, learner.model, on_device(batches, device)
        self.guard, self.checkpointer, self.run_logger, self.validate = guard, checkpointer, run_logger, validate
        self.schedule, self.device = schedule, device
        replica: nn.Module = self.model  # what computes the losses: with several processes, one of them
        if torch.distributed.is_initialized():
            ids = [device.index] if device.type == "cuda" else None
            replica = nn.parallel.DistributedDataParallel(self.model, device_ids=ids)
        step = TrainingStep(learner, replica, schedule.clip_grad_norm, schedule.precision, device)
        self.make_step = GraphedStep(step, CudaRecorder(device)) if schedule.cuda_graph else step

    def train(self, stop: StopSignal) -> None:
        """Run to the last iteration, or until ``stop`` is raised; the state is saved either way."""
        self.model.train()
        numbers = range(self.schedule.start_iter + 1, self.schedule.total_iter + 1)
        with closing(self.run_logger), progress_bar(numbers, "train") as bar:
            if not self.schedule.reported:
                self.after_step(self.schedule.start_iter)
            for iteration in bar:
                self.learner.meter.add(self.step(iteration))
                self.run_logger.forecast(iteration, self.schedule.total_iter)
                if stop.requested():
                    self.save(iteration, reported=False)
                    break
                self.after_step(iteration)

    def pace(self, seconds: float) -> float:
        """Seconds an iteration takes, measured for ``seconds``. The training is no good any more afterwards.

        The first iteration, which is slower than the others, counts only where it is the only one.
        """
        self.model.train()
        start, counted = time.perf_counter(), 0
        for iteration in range(1, self.schedule.total_iter + 1):
            self.step(iteration)
            self.guard.settle()  # waits for the device
            counted += 1
            if iteration == 1 < self.schedule.total_iter:
                start, counted = time.perf_counter(), 0
            elif time.perf_counter() - start >= seconds:
                break
        return (time.perf_counter() - start) / counted

    def after_step(self, iteration: int) -> None:
        """Validate, log and save, each where it is due.

        A validation may take long, so the state is saved before it, too. If the run is killed in the middle, the
        resumed run does all of this again.
        """
        if self._is_due(iteration, self.schedule.val_freq):
            self.save(iteration, reported=False)
            self.validation(iteration)
        if self._is_due(iteration, self.schedule.print_freq):
            self.log(iteration)
        if self._is_due(iteration, self.schedule.checkpoint_freq):
            self.save(iteration)

    def step(self, iteration: int) -> dict[str, Tensor]:
        """One optimizer step; its mean losses, on the device, or none if it was skipped."""
        progress = torch.full((), (iteration - 1) / self.schedule.total_iter, device=self.device)
        micro_batches = []
        for _ in range(self.schedule.accum_iter):
            batch, pictures = next(self.batches)
            self.guard.remember(pictures)
            micro_batches.append(batch)
        if isinstance(self.make_step, GraphedStep):
            outcome = self.make_step(micro_batches, progress)
            self.guard.passes(iteration, outcome.finite.clone())
        else:
            outcome = self.make_step(micro_batches, progress, partial(self.guard.passes, iteration))
        self.learner.scheduler.step()
        return outcome.losses if outcome.updated else {}

    def log(self, iteration: int) -> None:
        """Write the mean losses since the last time."""
        self.guard.settle()
        lr = self.learner.optimizer.param_groups[0]["lr"]
        self.run_logger.log_losses(iteration, self.schedule.total_iter, self.learner.meter.read(), lr)

    def validation(self, iteration: int) -> None:
        """Validate, and keep the weights if they are the best so far."""
        self.guard.settle()
        with self.run_logger.paused():
            self.model.eval()
            score = self.validate(iteration)
            self.model.train()
            if score is not None:
                self.checkpointer.keep_best(iteration, score, self.learner)

    def save(self, iteration: int, reported: bool = True) -> None:
        """Write weights and state, and only then remove old ones."""
        self.guard.settle()
        with self.run_logger.paused():
            self.run_logger.flush()
            self.checkpointer.save(iteration, self.learner, reported)
        logger.info("iter %d: saved %s", iteration, self.checkpointer.latest)

    def _is_due(self, iteration: int, frequency: int | None) -> bool:
        return frequency is not None and (iteration % frequency == 0 or iteration == self.schedule.total_iter)
