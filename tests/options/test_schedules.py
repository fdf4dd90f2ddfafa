"""Schedules and optimizers own their rates, their lengths and their arguments: a new one is one class."""

from typing import ClassVar, Literal

import pytest

from atbsn.options.optimization import (
    SGD,
    Adam,
    ConstantSchedule,
    CosineSchedule,
    MultiStepSchedule,
    RateSchedule,
    StepSchedule,
)
from atbsn.options.schema import Train


class Linear(RateSchedule):
    """One that nobody else knows: from lr to 0 over what ``rest`` leaves."""

    LENGTHS: ClassVar[tuple[str, ...]] = ("rest",)

    type: Literal["Linear"]
    rest: int | float = 0

    def part(self, done: float, total_iter: int, lr: float) -> float:
        return max(0.0, 1 - done / (total_iter - self.rest))


def test_a_new_schedule_is_one_class() -> None:
    halved = Linear(type="Linear", rest=20, warmup_iter=10).with_lengths(lambda length: length // 2)
    assert (halved.rest, halved.warmup_iter) == (10, 5)
    assert halved.rate(4, 110, 1.0) == pytest.approx(1 - 4 / 100)  # the warm-up ends with the fifth iteration
    assert halved.rate(1, 110, 1.0) == pytest.approx((1 - 1 / 100) * 2 / 5)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (ConstantSchedule(type="Constant"), [1, 1, 1, 1, 1]),
        (StepSchedule(type="Step", step_size=4, gamma=0.5), [1, 1, 0.5, 0.5, 0.25]),
        (MultiStepSchedule(type="MultiStep", milestones=[6, 2], gamma=0.1), [1, 0.1, 0.1, 0.01, 0.01]),
        (CosineSchedule(type="CosineAnnealing", eta_min=0.2), [1, 0.853553, 0.5, 0.146447, 0]),
        (CosineSchedule(type="CosineAnnealing", hold=4), [1, 1, 1, 0.5, 0]),
    ],
)
def test_parts_of_the_learning_rate(
    schedule: ConstantSchedule | CosineSchedule | MultiStepSchedule | StepSchedule, expected: list[float]
) -> None:
    """After 0, 2, 4, 6 and 8 of 8 iterations, at lr = 1; the cosine's between eta_min and lr."""
    low = getattr(schedule, "eta_min", 0)
    if low:
        expected = [low + (1 - low) * part for part in expected]
    assert [schedule.part(done, 8, 1.0) for done in (0, 2, 4, 6, 8)] == pytest.approx(expected, abs=1e-6)


def test_shares_become_iterations_and_iterations_stay() -> None:
    train = Train(
        total_iter=200,
        optim=Adam(type="Adam", lr=1e-3),
        scheduler=MultiStepSchedule(type="MultiStep", milestones=[0.5, 150], warmup_iter=0.1),
    )
    scheduler = train.in_iterations().scheduler
    assert scheduler.milestones == [100, 150] and scheduler.warmup_iter == 20


def test_arguments_of_the_optimizers() -> None:
    adam, sgd = Adam(type="AdamW", lr=0.1, eps=1e-6), SGD(type="SGD", lr=0.1, momentum=0.9)
    assert "type" not in adam.arguments("cpu") and adam.arguments("cpu")["eps"] == 1e-6
    assert [adam.arguments(device)["fused"] for device in ("cpu", "cuda", "mps")] == [True, True, None]
    assert [sgd.arguments(device)["fused"] for device in ("cpu", "cuda")] == [None, True]
    assert adam.arguments("cuda")["capturable"] and "capturable" not in adam.arguments("cpu") | sgd.arguments("cuda")
