"""The training loop: fetch, step, log, save, validate. Nothing of any method is in here."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from atbsn.data.patches import to_batch
from atbsn.engine.checkpoint import Checkpointer
from atbsn.engine.finite import FiniteGuard
from atbsn.engine.interrupt import StopSignal
from atbsn.engine.loggers import LossMeter, RunLogger
from atbsn.engine.optimization import autocast
from atbsn.models.base import Model
from atbsn.options.schema import Precision
from atbsn.utils.log import logger, progress_bar


class Trainer:
    """Trains ``model.net`` for a given number of iterations.

    Args:
        model: the training method.
        batches: raw micro-batches of ``atbsn.data.loader``, ``accum_iter`` for every iteration that is left.
        optimizer: over the parameters of ``model.net``.
        scheduler: stepped once an iteration.
        ema: average of ``model.net``'s weights, or None.
        scaler: scales the losses for fp16; disabled otherwise.
        guard: stops, or skips, when a loss or gradient is not finite.
        checkpointer: writes weights and states.
        run_logger: writes numbers.
        validate: called with the iteration; returns the value of the metric that chooses ``net_best``, if any.
        start_iter: iterations already done.
        total_iter: iterations in all.
        accum_iter: micro-batches an iteration.
        clip_grad_norm: largest norm of the gradient, or None.
        precision: type of the forward pass.
        print_freq, checkpoint_freq, val_freq: iterations between; ``val_freq`` may be None.
    """

    def __init__(
        self,
        model: Model,
        batches: Iterator[dict[str, Tensor]],
        optimizer: Optimizer,
        scheduler: LRScheduler,
        ema: AveragedModel | None,
        scaler: torch.amp.GradScaler,
        guard: FiniteGuard,
        checkpointer: Checkpointer,
        run_logger: RunLogger,
        validate: Callable[[int], float | None],
        *,
        device: torch.device,
        start_iter: int,
        total_iter: int,
        accum_iter: int,
        clip_grad_norm: float | None,
        precision: Precision,
        print_freq: int,
        checkpoint_freq: int,
        val_freq: int | None,
    ) -> None:
        self.model, self.batches = model, batches
        self.optimizer, self.scheduler, self.ema, self.scaler = optimizer, scheduler, ema, scaler
        self.guard, self.checkpointer, self.run_logger, self.validate = guard, checkpointer, run_logger, validate
        self.device, self.precision = device, precision
        self.start_iter, self.total_iter = start_iter, total_iter
        self.accum_iter, self.max_norm = accum_iter, clip_grad_norm or float("inf")
        self.print_freq, self.checkpoint_freq, self.val_freq = print_freq, checkpoint_freq, val_freq
        self.parameters = [parameter for parameter in model.net.parameters() if parameter.requires_grad]
        self.meter = LossMeter()
        self.losses: nn.Module = model
        if torch.distributed.is_initialized():
            ids = [device.index] if device.type == "cuda" else None
            self.losses = nn.parallel.DistributedDataParallel(model, device_ids=ids)

    def train(self, stop: StopSignal) -> None:
        """Run to the last iteration, or to the next one after ``stop`` is raised; the state is saved either way."""
        self.model.train()
        numbers = range(self.start_iter + 1, self.total_iter + 1)
        with progress_bar(numbers, "train") as bar:
            for iteration in bar:
                self.meter.add(self.step(iteration))
                last = iteration == self.total_iter or stop.requested()
                if iteration % self.print_freq == 0 or last:
                    self.log(iteration)
                if self.val_freq and (iteration % self.val_freq == 0 or iteration == self.total_iter):
                    self.validation(iteration)
                if iteration % self.checkpoint_freq == 0 or last:
                    self.save(iteration)
                if last:
                    break

    def step(self, iteration: int) -> dict[str, Tensor]:
        """One optimizer step; the losses of its last micro-batch, on the device."""
        progress = torch.full((), (iteration - 1) / self.total_iter, device=self.device)
        for micro_batch in range(1, self.accum_iter + 1):
            raw = next(self.batches)
            self.guard.remember(raw["index"])
            with self._gradient_exchange(micro_batch), autocast(self.precision, self.device):
                losses = self.losses(to_batch(raw, self.device), progress)
                self.scaler.scale(losses["loss"] / self.accum_iter).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
        if self.guard.passes(iteration, losses["loss"], norm):
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.ema is not None:
                self.ema.update_parameters(self.model.net)
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        return losses

    def log(self, iteration: int) -> None:
        """Write the mean losses since the last time."""
        self.guard.settle()
        lr = self.optimizer.param_groups[0]["lr"]
        self.run_logger.log_losses(iteration, self.total_iter, self.meter.read(), lr)

    def validation(self, iteration: int) -> None:
        """Validate, and keep the weights if they are the best so far."""
        self.guard.settle()
        self.model.eval()
        score = self.validate(iteration)
        self.model.train()
        if score is not None:
            self.checkpointer.keep_best(iteration, score, self.model, self.ema)
        self.run_logger.restart_clock(iteration)

    def save(self, iteration: int) -> None:
        """Write weights and state, and only then remove old ones."""
        self.guard.settle()
        self.run_logger.flush()
        self.checkpointer.save(iteration, self.model, self.ema, self.optimizer, self.scheduler, self.scaler)
        self.run_logger.restart_clock(iteration)
        logger.info("iter %d: saved %s", iteration, self.checkpointer.latest)

    def _gradient_exchange(self, micro_batch: int) -> object:
        """Processes exchange gradients only at the last micro-batch of an iteration."""
        if micro_batch < self.accum_iter and isinstance(self.losses, nn.parallel.DistributedDataParallel):
            return self.losses.no_sync()
        return nullcontext()
