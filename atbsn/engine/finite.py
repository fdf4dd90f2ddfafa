"""Watching for losses and gradients that are not finite, without stopping the GPU to look."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from atbsn.utils.errors import UserError
from atbsn.utils.log import logger


@dataclass(frozen=True)
class _Verdict:
    """Whether an iteration was finite, on its way from the device."""

    iteration: int
    pictures: list[Tensor]
    finite: Tensor
    arrival: torch.cuda.Event | None


class FiniteGuard:
    """Stops a run whose loss or gradient is not finite, naming the iteration and the pictures.

    On a GPU the verdict of an iteration is copied back without waiting and read some iterations later, always
    before anything is logged, validated or saved: no checkpoint of spoilt weights is ever written. With ``skip`` each
    verdict is awaited, since the step has to be left out.

    Args:
        skip: how many iterations in a row may be left out; 0 stops at the first.
        name_of: the name of a picture, by its index in the training set.
        last_good: where the last good checkpoint is, for the message.
        scaled: fp16: gradients that are not finite are the scaler's business.
    """

    def __init__(
        self, skip: int, name_of: Callable[[int], str], last_good: Callable[[], object], scaled: bool
    ) -> None:
        self.skip, self.name_of, self.last_good, self.scaled = skip, name_of, last_good, scaled
        self._pictures: list[Tensor] = []
        self._pending: deque[_Verdict] = deque()
        self._skipped = 0

    def remember(self, pictures: Tensor) -> None:
        """Note the indices of the pictures of a micro-batch."""
        self._pictures.append(pictures)

    def passes(self, iteration: int, loss: Tensor, norm: Tensor) -> bool:
        """Whether to make the step; raises ``UserError`` when the run has to stop."""
        finite = loss.detach().isfinite() if self.scaled else (loss.detach() + norm).isfinite()
        pictures, self._pictures = self._pictures, []
        if self.skip:
            return self._passes_or_skips(iteration, pictures, finite)
        arrival = None
        if finite.is_cuda:
            finite = finite.to("cpu", non_blocking=True)
            arrival = torch.cuda.current_stream().record_event()
        self._pending.append(_Verdict(iteration, pictures, finite, arrival))
        while self._pending and (self._pending[0].arrival is None or self._pending[0].arrival.query()):
            self._read(self._pending.popleft())
        return True

    def settle(self) -> None:
        """Wait for all verdicts."""
        while self._pending:
            verdict = self._pending.popleft()
            if verdict.arrival is not None:
                verdict.arrival.synchronize()
            self._read(verdict)

    def _passes_or_skips(self, iteration: int, pictures: list[Tensor], finite: Tensor) -> bool:
        if distributed.is_initialized():
            votes = finite.int()
            distributed.all_reduce(votes, distributed.ReduceOp.MIN)
            finite = votes.bool()
        if finite.item():
            self._skipped = 0
            return True
        self._skipped += 1
        if self._skipped > self.skip:
            self._stop(iteration, pictures)
        logger.warning("iter %d: loss or gradient is not finite; skipped (%s)", iteration, self._names(pictures))
        return False

    def _read(self, verdict: _Verdict) -> None:
        if not verdict.finite:
            self._stop(verdict.iteration, verdict.pictures)

    def _stop(self, iteration: int, pictures: Sequence[Tensor]) -> None:
        raise UserError(
            f"iter {iteration}: loss or gradient is not finite, on {self._names(pictures)}; last good checkpoint: "
            f"{self.last_good() or 'none yet'}; lower train.optim.lr, set train.clip_grad_norm, or use precision fp32"
        )

    def _names(self, pictures: Sequence[Tensor]) -> str:
        indices = dict.fromkeys(int(index) for batch in pictures for index in batch)
        return ", ".join(self.name_of(index) for index in indices)
