"""Logs of a training: to the console, ``metrics.csv`` and trackers such as TensorBoard. Only rank 0 writes."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atbsn.engine.evaluation.results import Result, read_results, write_results
from atbsn.engine.training.trackers import Tracker
from atbsn.utils import dist
from atbsn.utils.durations import rough_duration
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger

_WATCHED = 5.0
"""Seconds after which the time of an iteration is known well enough for a forecast. Chosen by hand."""


class LossMeter:
    """The mean losses since they were last read. They are summed on the device, so nothing waits between two prints."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add the losses of one step (scalars). For a skipped step, ``losses`` is empty."""
        if not losses:
            return
        for name, value in losses.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        self._count += 1

    def read(self) -> dict[str, float]:
        """The means over the steps and all processes; the sums start from 0 again. Waits for the device."""
        if not self._count:
            return {}
        means = dist.mean_(torch.stack(list(self._sums.values())) / self._count).tolist()
        by_name = dict(zip(self._sums, means, strict=True))
        self._sums, self._count = {}, 0
        return by_name

    def state_dict(self) -> dict[str, Any]:
        """The sums of this process."""
        return {"sums": {name: value.cpu() for name, value in self._sums.items()}, "count": self._count}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Continue with the sums of ``state_dict``."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._count = state["count"]


class RunLogger:
    """Logs the numbers of one training.

    Args:
        folder: the folder of ``metrics.csv``.
        trackers: they get numbers and pictures, too.
        first_iter: the first iteration that will be logged. Rows that an interrupted run left of this and later
            iterations are dropped, since these iterations come again.

    Raises:
        UserError: ``metrics.csv`` cannot be read as a table of results, a folder cannot be written, or a tracker
            refuses.
    """

    def __init__(self, folder: Path, trackers: Sequence[Tracker], first_iter: int) -> None:
        self._csv = folder / "metrics.csv"
        self._rows: list[Result] = []
        self._trackers = trackers
        self._clock, self._clock_iter = time.perf_counter(), first_iter - 1
        self._watch: tuple[int, float] | None = None  # iteration and time at which the forecast began to measure
        self._pace_is_known = False
        dist.on_main(lambda: self._open(first_iter))

    def _open(self, first_iter: int) -> None:
        rows = _read_rows(self._csv)
        self._rows = [row for row in rows if row.iteration is not None and row.iteration < first_iter]
        if len(self._rows) < len(rows):
            write_results(self._csv, self._rows)
        for tracker in self._trackers:
            tracker.open(first_iter)

    def log_losses(self, iteration: int, total_iter: int, losses: dict[str, float], lr: float) -> None:
        """One line on the console (losses, learning rate, it/s, time left) and the TensorBoard curves."""
        now, self._pace_is_known = time.perf_counter(), True
        speed = (iteration - self._clock_iter) / max(now - self._clock, 1e-9)
        self._clock, self._clock_iter = now, iteration
        eta = time.strftime("%H:%M:%S", time.gmtime((total_iter - iteration) / speed)) if speed else "?"
        days = int((total_iter - iteration) / speed // 86400) if speed else 0
        values = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
        logger.info(
            "iter %d/%d: %s, lr %.3g, %.2f it/s, eta %s%s",
            iteration, total_iter, values, lr, speed, f"{days} d " if days else "", eta,
        )  # fmt: skip
        self._scalars(iteration, {f"train/{name}": value for name, value in losses.items()} | {"train/lr": lr})

    def forecast(self, iteration: int, total_iter: int) -> None:
        """Log once, a few seconds after the start, how long the training will take, unless ``log_losses`` has said it.

        The first iteration is slower than the others and does not count.
        """
        now = time.perf_counter()
        if self._pace_is_known:
            return
        if self._watch is None:
            self._watch = iteration, now
            return
        seconds = now - self._watch[1]
        if seconds >= _WATCHED:
            self._pace_is_known = True
            each = seconds / (iteration - self._watch[0])
            left = rough_duration(each * (total_iter - iteration))
            logger.info("%.2g s an iteration: about %s to iteration %d", each, left, total_iter)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time inside this context, such as that of a validation, for it/s."""
        start = time.perf_counter()
        yield
        spent = time.perf_counter() - start
        self._clock += spent
        self._watch = self._watch and (self._watch[0], self._watch[1] + spent)

    def log_metrics(self, iteration: int, results: Iterable[Result]) -> None:
        """Log the results of a validation at ``iteration``."""
        for each in results:
            self._rows.append(replace(each, iteration=iteration))
            self._scalars(iteration, {_path(each): each.value})
            logger.info(
                "iter %d: %s, %s: %s %.4f [%s]",
                iteration, each.dataset, each.method, each.metric, each.value, each.protocol,
            )  # fmt: skip
        dist.on_main(lambda: write_results(self._csv, self._rows))

    def log_panel(self, iteration: int, name: str, panel: np.ndarray) -> None:
        """Send a picture, (H, W, 3) uint8 RGB, to the trackers."""
        if dist.is_main():
            for tracker in self._trackers:
                tracker.picture(iteration, name, panel)

    def flush(self) -> None:
        """Write everything to disk. It is called before a state is saved, so that a resumed run loses nothing.

        Raises:
            UserError: something could not be written, now or since the last ``flush``.
        """
        dist.on_main(self._flush)

    def close(self) -> None:
        """Close the trackers, with the last value of every metric. Raises nothing."""
        if dist.is_main():
            last = {_path(row): row.value for row in self._rows}
            for tracker in self._trackers:
                tracker.close(last)

    def _flush(self) -> None:
        for tracker in self._trackers:
            tracker.flush()

    def _scalars(self, iteration: int, values: dict[str, float]) -> None:
        if dist.is_main():
            for tracker in self._trackers:
                tracker.scalars(iteration, values)


def _read_rows(path: Path) -> list[Result]:
    if not path.is_file():
        return []
    try:
        rows = read_results(path)
        if any(row.iteration is None for row in rows):
            raise UserError(f"{path}: a row without an iteration")
    except UserError as error:
        raise UserError(f"{path}: cannot be continued ({error}); move it away or restore it") from error
    return rows


def _path(row: Result) -> str:
    """The name of a curve."""
    return f"{row.dataset}/{row.method}/{row.metric}"
