"""The training loop: fetch, step, log, save, validate. Nothing of any method is in here."""

from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext

import torch
from torch import Tensor, nn

from atbsn.data.device import on_device
from atbsn.engine.checkpoint import Checkpointer, Learner
from atbsn.engine.finite import FiniteGuard
from atbsn.engine.interrupt import StopSignal
from atbsn.engine.loggers import RunLogger
from atbsn.engine.optimization import autocast
from atbsn.options.schema import Precision
from atbsn.utils.log import logger, progress_bar


class Trainer:
    """Trains ``model.net`` for a given number of iterations.

    Args:
        learner: the method, its optimizer, and whatever else changes.
        batches: raw micro-batches of ``atbsn.data.loader``, ``accum_iter`` for every iteration that is left.
        guard: stops, or skips, when a loss or gradient is not finite.
        checkpointer: writes weights and states.
        run_logger: writes numbers.
        validate: called with the iteration; returns the value of the metric that chooses ``net_best``, if any.
        start_iter: iterations already done.
        reported: whether the last of them has been logged and validated.
        total_iter: iterations in all.
        accum_iter: micro-batches an iteration.
        clip_grad_norm: largest norm of the gradient, or None.
        precision: type of the forward pass.
        print_freq, checkpoint_freq, val_freq: iterations between; ``val_freq`` may be None.
    """

    def __init__(
        self,
        learner: Learner,
        batches: Iterator[dict[str, Tensor]],
        guard: FiniteGuard,
        checkpointer: Checkpointer,
        run_logger: RunLogger,
        validate: Callable[[int], float | None],
        *,
        device: torch.device,
        start_iter: int,
        reported: bool,
        total_iter: int,
        accum_iter: int,
        clip_grad_norm: float | None,
        precision: Precision,
        print_freq: int,
        checkpoint_freq: int,
        val_freq: int | None,
    ) -> None:
        self.learner, self.model, self.batches = learner, learner.model, on_device(batches, device)
        self.optimizer, self.scaler, self.ema = learner.optimizer, learner.scaler, learner.ema
        self.guard, self.checkpointer, self.run_logger, self.validate = guard, checkpointer, run_logger, validate
        self.device, self.precision = device, precision
        self.start_iter, self.reported, self.total_iter = start_iter, reported, total_iter
        self.accum_iter, self.max_norm = accum_iter, clip_grad_norm or float("inf")
        self.print_freq, self.checkpoint_freq, self.val_freq = print_freq, checkpoint_freq, val_freq
        self.parameters = [parameter for parameter in self.model.net.parameters() if parameter.requires_grad]
        self.losses: nn.Module = self.model
        if torch.distributed.is_initialized():
            ids = [device.index] if device.type == "cuda" else None
            self.losses = nn.parallel.DistributedDataParallel(self.model, device_ids=ids)

    def train(self, stop: StopSignal) -> None:
        """Run to the last iteration, or until ``stop`` is raised; the state is saved either way."""
        self.model.train()
        numbers = range(self.start_iter + 1, self.total_iter + 1)
        with closing(self.run_logger), progress_bar(numbers, "train") as bar:
            if not self.reported:
                self.report(self.start_iter)
            for iteration in bar:
                self.learner.meter.add(self.step(iteration))
                if stop.requested():
                    self.save(iteration, reported=False)
                    break
                self.report(iteration)

    def report(self, iteration: int) -> None:
        """Validate, log and save, each where it is due. What is killed here is repeated by the resumed run."""
        if self._is_due(iteration, self.val_freq):
            if self._is_due(iteration, self.checkpoint_freq):
                self.save(iteration, reported=False)
            self.validation(iteration)
        if self._is_due(iteration, self.print_freq):
            self.log(iteration)
        if self._is_due(iteration, self.checkpoint_freq):
            self.save(iteration)

    def step(self, iteration: int) -> dict[str, Tensor]:
        """One optimizer step; the losses of its last micro-batch, on the device, or none if it was skipped."""
        progress = torch.full((), (iteration - 1) / self.total_iter, device=self.device)
        for micro_batch in range(1, self.accum_iter + 1):
            batch, pictures = next(self.batches)
            self.guard.remember(pictures)
            with self._gradient_exchange(micro_batch), autocast(self.precision, self.device):
                losses = self.losses(batch, progress)
                self.scaler.scale(losses["loss"] / self.accum_iter).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
        passes = self.guard.passes(iteration, losses["loss"], norm)
        if passes:
            self.scaler.step(self.optimizer)
            if self.ema is not None:
                self.ema.update_parameters(self.model.net)
        self.scaler.update()
        self.learner.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        return losses if passes else {}

    def log(self, iteration: int) -> None:
        """Write the mean losses since the last time."""
        self.guard.settle()
        lr = self.optimizer.param_groups[0]["lr"]
        self.run_logger.log_losses(iteration, self.total_iter, self.learner.meter.read(), lr)

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
        return frequency is not None and (iteration % frequency == 0 or iteration == self.total_iter)

    def _gradient_exchange(self, micro_batch: int) -> object:
        """Processes exchange gradients only at the last micro-batch of an iteration."""
        if micro_batch < self.accum_iter and isinstance(self.losses, nn.parallel.DistributedDataParallel):
            return self.losses.no_sync()
        return nullcontext()
