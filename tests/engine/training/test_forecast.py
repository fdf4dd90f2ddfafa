"""How long a training will take is said at its start."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from atbsn.engine.training import loggers
from atbsn.engine.training.loggers import RunLogger
from atbsn.utils.durations import median_seconds, rough_duration


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Callable[..., list[str]]:
    """``said(seconds an iteration, iterations, total)``: what a training that is watched that far says."""
    monkeypatch.setattr(logging.getLogger("atbsn"), "propagate", True)
    caplog.set_level(logging.INFO, logger="atbsn")
    now = [100.0]
    monkeypatch.setattr(loggers.time, "perf_counter", lambda: now[0])

    def watch(each: float, iterations: int, total: int, print_freq: int | None = None, pause: float = 0.0) -> list[str]:
        caplog.clear()
        run = RunLogger(tmp_path, [], 1)
        now[0] += 30.0  # the first iteration, with what it builds
        for iteration in range(1, iterations + 1):
            run.forecast(iteration, total)
            if iteration == print_freq:
                run.log_losses(iteration, total, {"loss": 1.0}, 1e-3)
            with run.paused():
                now[0] += pause
            now[0] += each
        return [record.getMessage() for record in caplog.records]

    return watch


def test_once_and_without_the_first_iteration(said: Callable[..., list[str]]) -> None:
    assert said(2.0, 20, 1001) == ["2 s an iteration: about 33 min to iteration 1001"]


def test_a_validation_does_not_count(said: Callable[..., list[str]]) -> None:
    assert said(2.0, 20, 1001, pause=600.0) == ["2 s an iteration: about 33 min to iteration 1001"]


def test_weeks_on_a_cpu(said: Callable[..., list[str]]) -> None:
    assert said(38.0, 3, 100_000) == ["38 s an iteration: about 44 days to iteration 100000"]


def test_not_where_a_line_has_said_so(said: Callable[..., list[str]]) -> None:
    lines = said(0.1, 200, 1000, print_freq=20)
    assert len(lines) == 1 and "eta" in lines[0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (86400, "24 h"), (172_800, "2 days")],
)
def test_durations(seconds: int, text: str) -> None:
    assert rough_duration(seconds) == text


def test_what_warms_up_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 9, 10, 11, 20, 22, 30, 36])
    monkeypatch.setattr("atbsn.utils.durations.time.perf_counter", lambda: next(clock))
    runs = []
    assert median_seconds(lambda: runs.append(1), repeats=3) == 2 and len(runs) == 4
