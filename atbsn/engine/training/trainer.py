"""The training loop: fetch, step, log, save, validate. It knows nothing of any method."""

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
    """How long a training is, how it makes its steps, and how often it logs, saves and validates.

    Attributes:
        total_iter: number of iterations.
        start_iter: number of iterations already done.
        reported: whether the last of these has been logged and validated.
        accum_iter: micro-batches in an iteration.
        clip_grad_norm: largest norm of the gradient; None: it is not clipped.
        precision: type of numbers in the forward pass.
        cuda_graph: whether iterations are captured as a CUDA graph (``setup.captures``).
        print_freq, checkpoint_freq, val_freq: iterations between two log lines, checkpoints and validations;
            ``val_freq`` None: it never validates.
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
    """The loop: makes the steps of a training, and logs, validates and saves when it is due.

    Args:
        learner: the method, its optimizer, and whatever else changes.
        batches: raw micro-batches of ``atbsn.data.loader``, ``accum_iter`` for each iteration that is left.
        guard: stops the training, or skips a step, when a loss or gradient is not finite.
        checkpointer: writes weights and states.
        run_logger: logs numbers.
        validate: called with the iteration; returns the value of the metric that chooses ``net_best``, if any.
        schedule: length and frequencies.
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
        replica: nn.Module = self.model  # computes the losses; with several processes, also exchanges gradients
        if torch.distributed.is_initialized():
            ids = [device.index] if device.type == "cuda" else None
            replica = nn.parallel.DistributedDataParallel(self.model, device_ids=ids)
        step = TrainingStep(learner, replica, schedule.clip_grad_norm, schedule.precision, device)
        self.make_step = GraphedStep(step, CudaRecorder(device)) if schedule.cuda_graph else step

    def train(self, stop: StopSignal) -> None:
        """Train to the last iteration, or until ``stop`` was requested. The state is saved in both cases."""
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
        """Measure the seconds that an iteration takes, for ``seconds``. Afterwards this trainer must not be used.

        The first iteration is slower than the others. It counts only if it is the only one.
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
        """Validate, log and save, each if it is due.

        A validation may take long, so the state is saved before it, too. If the run is killed during the validation,
        the resumed run repeats it.
        """
        if self._is_due(iteration, self.schedule.val_freq):
            self.save(iteration, reported=False)
            self.validation(iteration)
        if self._is_due(iteration, self.schedule.print_freq):
            self.log(iteration)
        if self._is_due(iteration, self.schedule.checkpoint_freq):
            self.save(iteration)

    def step(self, iteration: int) -> dict[str, Tensor]:
        """Make one optimizer step; returns its mean losses, on the device, or nothing if it was skipped."""
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
        """Log the mean losses since the last call."""
        self.guard.settle()
        lr = self.learner.optimizer.param_groups[0]["lr"]
        self.run_logger.log_losses(iteration, self.schedule.total_iter, self.learner.meter.read(), lr)

    def validation(self, iteration: int) -> None:
        """Validate, and write ``net_best`` if the weights are the best so far."""
        self.guard.settle()
        with self.run_logger.paused():
            self.model.eval()
            score = self.validate(iteration)
            self.model.train()
            if score is not None:
                self.checkpointer.keep_best(iteration, score, self.learner)

    def save(self, iteration: int, reported: bool = True) -> None:
        """Write weights and state."""
        self.guard.settle()
        with self.run_logger.paused():
            self.run_logger.flush()
            self.checkpointer.save(iteration, self.learner, reported)
        logger.info("iter %d: saved %s", iteration, self.checkpointer.latest)

    def _is_due(self, iteration: int, frequency: int | None) -> bool:
        return frequency is not None and (iteration % frequency == 0 or iteration == self.schedule.total_iter)
