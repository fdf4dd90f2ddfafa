"""A CUDA graph's stand-in on the CPU: it repeats the operators of an iteration on the tensors it was recorded with.

As in a CUDA graph, nothing of Python runs again: a number that was read from a tensor, a learning rate or a list of
pictures stays what it was, and a tensor that is not written in place is not seen.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from atbsn.engine.training.checkpoint import Learner
from atbsn.engine.training.step import Batch, Outcome, TrainingStep


class Operators(TorchDispatchMode):
    """Keeps every operator that runs, with its arguments and results.

    Args:
        learner: whose count of averaged weights, which stays on the CPU while one trains on a GPU, is left out.
    """

    def __init__(self, learner: Learner | None = None) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self._on_host = [] if learner is None or learner.ema is None else [learner.ema.n_averaged]

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not any(args and args[0] is tensor for tensor in self._on_host):
            self.calls.append((function, args, kwargs or {}, result))
        return result

    def names(self) -> list[str]:
        return [str(function) for function, *_ in self.calls]


class Rerun:
    """A ``Recorder`` of the CPU. Recording makes the iteration, so the first ``replay`` does nothing."""

    def __init__(self, learner: Learner) -> None:
        self.operators = Operators(learner)
        self.replays = 0

    def warm_up(self, step: TrainingStep, batches: Sequence[Batch], progress: Tensor) -> Outcome:
        return step(batches, progress)

    def watch(self, step: TrainingStep, batches: Sequence[Batch], progress: Tensor) -> tuple[Outcome, str | None]:
        return step(batches, progress), None

    def record(self, step: TrainingStep, batches: Sequence[Batch], progress: Tensor) -> Outcome:
        with self.operators:
            return step(batches, progress)

    def replay(self) -> None:
        self.replays += 1
        if self.replays == 1:
            return
        with torch._C._AutoDispatchBelowAutograd():
            for function, args, kwargs, result in self.operators.calls:
                again = function(*args, **kwargs)
                for old, new in zip(_tensors(result), _tensors(again), strict=True):
                    if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                        old.copy_(new)


def _tensors(result: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
