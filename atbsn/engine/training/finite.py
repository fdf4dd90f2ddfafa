"""Watches for losses and gradients that are not finite, without waiting for the GPU at every iteration."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from atbsn.utils import dist
from atbsn.utils.log import logger

_MIN_SCALE = 2.0**-10
"""Smallest scale of the loss with fp16. Chosen by hand: a scale below 1/1024 means that no scale makes the gradients
finite."""


@dataclass(frozen=True)
class _Step:
    """An iteration: the indices of its pictures, and ``finite``, (loss, gradient) as bool on the device."""

    iteration: int
    pictures: list[Tensor]
    finite: Tensor


class FiniteGuard:
    """Stops a run whose loss or gradient is not finite, and names the iteration and the pictures.

    The flags stay on the device until ``settle`` reads them. It is called before anything is logged, validated or
    saved, so spoilt weights are never written. With ``skip``, the flags of each iteration are read at once, since its
    step has to be left out.

    Args:
        skip: number of iterations in a row that may be left out; 0 stops at the first.
        name_of: returns the name of a picture by its index in the training set.
        last_good: returns the place of the last good checkpoint, for the message.
        scaler: enabled for fp16; it then handles gradients that are not finite (``TrainingStep``), unless they stay so.
    """

    def __init__(
        self,
        skip: int,
        name_of: Callable[[int], str],
        last_good: Callable[[], object],
        scaler: torch.amp.GradScaler,
    ) -> None:
        self.skip, self.name_of, self.last_good, self.scaler = skip, name_of, last_good, scaler
        self._pictures: list[Tensor] = []
        self._steps: list[_Step] = []
        self._skipped = 0

    def remember(self, pictures: Tensor) -> None:
        """Note the indices of the pictures of a micro-batch."""
        self._pictures.append(pictures)

    def passes(self, iteration: int, finite: Tensor) -> bool:
        """Whether to make the step.

        Args:
            iteration: its number.
            finite: (2,) bool, for the loss and the gradient. It is kept, so it must not be changed later.

        Raises:
            UserError: with ``skip``, too many iterations in a row were not finite.
        """
        step = _Step(iteration, self._pictures, finite)
        self._pictures = []
        if self.skip:
            return self._passes_or_skips(step)
        self._steps.append(step)
        return True

    def settle(self) -> None:
        """Check all iterations since the last call. Every process has to call it at the same iteration.

        Raises:
            UserError: one of them was not finite.
        """
        steps, self._steps = self._steps, []
        if steps:
            self._look_at(steps)
        scale = self.scaler.get_scale()
        if self.scaler.is_enabled() and scale < _MIN_SCALE:
            dist.fail_together(
                f"train.precision: fp16: the gradient is not finite however small the loss is scaled (by {scale:.2g} "
                f"now); {self._remedy()}"
            )

    def _look_at(self, steps: Sequence[_Step]) -> None:
        finite = torch.stack([step.finite for step in steps]).tolist()
        bad = next(((step, seen) for step, seen in zip(steps, finite, strict=True) if not all(seen)), None)
        findings = dist.gather(bad and (bad[0].iteration, bad[1][0], self._names(bad[0])))
        findings = [finding for finding in findings if finding]
        if findings:
            first = min(iteration for iteration, *_ in findings)
            self._stop(first, [finding[1:] for finding in findings if finding[0] == first])

    def _passes_or_skips(self, step: _Step) -> bool:
        finite = step.finite.all()
        if distributed.is_initialized():
            votes = finite.int()
            distributed.all_reduce(votes, distributed.ReduceOp.MIN)
            finite = votes.bool()
        if finite.item():
            self._skipped = 0
            return True
        self._skipped += 1
        findings = dist.gather((bool(step.finite[0]), self._names(step)))
        if self._skipped > self.skip:
            self._stop(step.iteration, findings)
        if dist.is_main():
            logger.warning("iter %d: loss or gradient is not finite; skipped (%s)", step.iteration, _guilty(findings))
        return False

    def _stop(self, iteration: int, findings: Sequence[tuple[bool, str]]) -> None:
        dist.fail_together(
            f"iter {iteration}: loss or gradient is not finite, on {_guilty(findings)}; {self._remedy()}"
        )

    def _remedy(self) -> str:
        return (
            f"last good checkpoint: {self.last_good() or 'none yet'}; lower train.optim.lr, set train.clip_grad_norm "
            "or use train.precision fp32, and continue from it with --auto_resume"
        )

    def _names(self, step: _Step) -> str:
        indices = dict.fromkeys(int(index) for batch in step.pictures for index in batch)
        return ", ".join(self.name_of(index) for index in indices)


def _guilty(findings: Sequence[tuple[bool, str]]) -> str:
    """The pictures of the processes whose loss was not finite; of all processes if only the gradient was not.

    Args:
        findings: for each process, whether its loss was finite, and its pictures.
    """
    own = [names for finite, names in findings if not finite]
    return ", ".join(own or [names for _, names in findings])
