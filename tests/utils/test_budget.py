"""A limited time that every stage looks at."""

from typing import Any

from atbsn.utils.budget import TimeBudget


def test_it_is_spent_when_its_time_is_over() -> None:
    now = [100.0]
    budget = TimeBudget(10, clock=lambda: now[0])
    assert budget.left == 10 and not budget.is_spent
    now[0] = 104.0
    part = budget.part(3)
    assert budget.left == 6 and part.left == 3
    assert budget.part(60).left == 6
    now[0] = 108.0
    assert part.is_spent and budget.left == 2
    now[0] = 120.0
    assert budget.left == 0 and budget.is_spent


def test_it_is_spent_when_somebody_asks_to_stop() -> None:
    asked: list[Any] = []
    budget = TimeBudget(1e9, lambda: bool(asked))
    part = budget.part(1e8)
    assert not budget.is_spent and not part.is_spent
    asked.append(1)
    assert budget.left == 0 and part.left == 0 and part.is_spent
