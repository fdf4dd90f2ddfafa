"""The loop by itself: what a step is told."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from atbsn.engine.training.trainer import Trainer


def test_progress_is_the_share_of_the_training_that_is_done() -> None:
    """0 in the first iteration; methods whose losses change over a training read it."""
    seen = []

    def make_step(batches: Any, progress: torch.Tensor, passes: Callable[[bool], bool]) -> SimpleNamespace:
        seen.append(float(progress))
        return SimpleNamespace(updated=False, losses={})

    trainer: Any = SimpleNamespace(
        schedule=SimpleNamespace(total_iter=8, accum_iter=2),
        device=torch.device("cpu"),
        batches=iter([({}, [number]) for number in range(16)]),
        guard=SimpleNamespace(remember=lambda pictures: None, passes=lambda iteration, finite: True),
        make_step=make_step,
        learner=SimpleNamespace(scheduler=SimpleNamespace(step=lambda: None)),
    )
    for iteration in range(1, 9):
        assert Trainer.step(trainer, iteration) == {}
    assert seen == [done / 8 for done in range(8)]
    assert next(trainer.batches, None) is None  # two micro-batches a step
