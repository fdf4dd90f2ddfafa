"""One iteration: losses, gradients, their norm, optimizer and average. Nothing in it waits for the device."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atbsn.engine.precision import autocast
from atbsn.engine.training.checkpoint import Learner
from atbsn.utils.types import Precision

Batch = dict[str, Tensor]
"""The tensors of a micro-batch by name, such as ``noisy``: (B, C, H, W)."""


@dataclass(frozen=True)
class Outcome:
    """The result of an iteration, on the device.

    Attributes:
        losses: means of the losses over its micro-batches, detached scalars.
        finite: (2,) bool: whether the loss and the norm of the gradient are finite.
        updated: whether the weights were changed.
    """

    losses: dict[str, Tensor]
    finite: Tensor
    updated: bool = True


class TrainingStep:
    """``step(micro_batches, progress)`` makes an iteration: from the patches to the new weights.

    It depends on tensors alone and leaves no gradients behind, so that it can be captured as a CUDA graph
    (``engine.training.graph``).

    Args:
        learner: the method, its optimizer and whatever else changes.
        replica: computes the losses: the method, or with several processes a wrapper of it.
        clip_grad_norm: largest norm of the gradient; None: it is not clipped.
        precision: type of numbers in the forward pass.
        device: where it computes.
    """

    def __init__(
        self,
        learner: Learner,
        replica: nn.Module,
        clip_grad_norm: float | None,
        precision: Precision,
        device: torch.device,
    ) -> None:
        self.learner, self.replica, self.clip_grad_norm = learner, replica, clip_grad_norm
        self.precision, self.device = precision, device
        self.parameters = [parameter for parameter in learner.model.net.parameters() if parameter.requires_grad]

    def __call__(
        self, micro_batches: Sequence[Batch], progress: Tensor, passes: Callable[[Tensor], bool] | None = None
    ) -> Outcome:
        """Make an iteration.

        Args:
            micro_batches: all micro-batches of the iteration, on the device.
            progress: scalar, iterations done / iterations in all.
            passes: decides from ``Outcome.finite`` whether to change the weights; None: always.
        """
        scaler, optimizer, ema = self.learner.scaler, self.learner.optimizer, self.learner.ema
        losses = self._gradients(micro_batches, progress)
        scaler.unscale_(optimizer)
        norm = self._clipped_norm()
        finite = torch.stack((losses["loss"], norm.to(losses["loss"]))).isfinite()
        if scaler.is_enabled():  # it leaves steps out whose gradients are not finite, and lowers the scale
            finite[1].fill_(True)
        updated = passes is None or passes(finite)
        if updated:
            scaler.step(optimizer)
            if ema is not None:
                ema.update_parameters(self.learner.model.net)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return Outcome(losses, finite, updated)

    def _gradients(self, micro_batches: Sequence[Batch], progress: Tensor) -> dict[str, Tensor]:
        """Sum up the gradients over the micro-batches; returns the mean of each loss, on the device."""
        *_, last = micro_batches
        count = len(micro_batches)
        means: dict[str, Tensor] = {}
        for batch in micro_batches:
            with self._gradient_exchange(batch is last), autocast(self.precision, self.device):
                losses = self.replica(batch, progress)
                loss = losses["loss"] if count == 1 else losses["loss"] / count
                self.learner.scaler.scale(loss).backward()
            for name, value in losses.items():
                part = value.detach() if count == 1 else value.detach().float() / count
                means[name] = means[name] + part if name in means else part
        return means

    def _clipped_norm(self) -> Tensor:
        """The norm of the gradient before it is clipped."""
        if self.clip_grad_norm is not None:
            return nn.utils.clip_grad_norm_(self.parameters, self.clip_grad_norm)
        return nn.utils.get_total_norm([each.grad for each in self.parameters if each.grad is not None])

    def _gradient_exchange(self, is_last: bool) -> AbstractContextManager[object]:
        """A context in which processes exchange gradients only at the last micro-batch of an iteration."""
        if not is_last and isinstance(self.replica, nn.parallel.DistributedDataParallel):
            return self.replica.no_sync()
        return nullcontext()
