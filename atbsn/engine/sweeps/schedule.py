"""Run the points of a sweep: several at a time, none twice, and to the end even if some fail."""

import re
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from atbsn.engine.sweeps.launch import Launcher, StartedPoint
from atbsn.engine.sweeps.ledger import Ledger
from atbsn.engine.sweeps.points import Point
from atbsn.utils.durations import exact_duration
from atbsn.utils.log import logger

_POLL = 0.2
"""Seconds between two looks at the running trainings. Chosen by hand."""
_SAY = 60.0
"""Seconds between lines about progress while no point ends. Chosen by hand."""
_ITERATION = re.compile(rb"iter (\d+)/(\d+)")
"""The iteration and the number of iterations in a line of a training's log."""
_TAIL = 8192
"""Bytes at the end of a log in which the last iteration is looked for. Chosen by hand: a hundred lines."""


@dataclass
class _Running:
    """A point that was started.

    Attributes:
        fraction_at_start: share of its iterations that earlier starts had done; None: not known yet.
    """

    point: Point
    job: StartedPoint
    slot: int
    since: float = field(default_factory=time.monotonic)
    fraction_at_start: float | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since


class SweepScheduler:
    """Runs those of ``points`` that are not done.

    Each SIGINT and SIGTERM is passed on to the running commands; a training then saves its state.
    """

    def __init__(self, points: list[Point], ledger: Ledger, launcher: Launcher) -> None:
        self.points, self.ledger, self.launcher = points, ledger, launcher
        self.running: list[_Running] = []
        self.received: signal.Signals | None = None
        self._said = 0.0

    def run(self) -> int:
        """Run the points; returns the exit status: 0, or 2 if points failed, or 128 + n if signal n ended the sweep."""
        previous = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            waiting = [point for point in self.points if self.ledger[point]["status"] != "done"]
            for point in waiting:
                self.ledger[point].update(status="waiting", reason=None)
            self.ledger.write()
            self._say()
            while self.running or (waiting and self.received is None):
                if self.received is None:
                    waiting = self._start_what_can(waiting)
                self._collect()
                if time.monotonic() - self._said > _SAY:
                    self._say()
                if self.running:
                    time.sleep(_POLL)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self._conclude()

    def _start_what_can(self, waiting: list[Point]) -> list[Point]:
        left = []
        for point in waiting:
            needed = "done" if point.needs is None else self.ledger.entries[point.needs]["status"]
            if needed == "failed":
                self.ledger.update(point, status="failed", reason=f"needs {point.needs}, which failed")
                logger.error("left out: %s: needs %s, which failed", point.id, point.needs)
            elif needed == "done" and len(self.running) < self.launcher.slots:
                self._start(point)
            else:
                left.append(point)
        return left

    def _start(self, point: Point) -> None:
        entry = self.ledger[point]
        slot = min(set(range(self.launcher.slots)) - {running.slot for running in self.running})
        command = point.command(sys.executable)
        job, handle = self.launcher.start(command, point.log, slot, entry.get("handle"))
        self.running.append(_Running(point, job, slot, fraction_at_start=0.0 if not entry["seconds"] else None))
        self.ledger.update(point, status="running", cores=self.launcher.cores, handle=handle)
        logger.info("started: %s (log: %s)", point.id, point.log)

    def _collect(self) -> None:
        for running in list(self.running):
            status = running.job.status()
            if status is None:
                continue
            self.running.remove(running)
            point, entry = running.point, self.ledger[running.point]
            seconds = entry["seconds"] + running.seconds
            if status == 0 and point.is_there():
                self.ledger.update(point, status="done", seconds=seconds, handle=None)
                logger.info("done: %s, %s", point.id, exact_duration(seconds))
            elif self.received is not None:
                self.ledger.update(point, status="stopped", seconds=seconds, handle=None)
                logger.info("stopped: %s", point.id)
            else:
                reason = f"{_ending(status)}: {last_words(point.log)}"
                self.ledger.update(point, status="failed", seconds=seconds, reason=reason, handle=None)
                logger.error("failed: %s (log: %s): %s", point.id, point.log, reason)
            self._say()

    def _say(self) -> None:
        self._said = time.monotonic()
        states = [self.ledger[point]["status"] for point in self.points]
        logger.info(
            "%d of %d points done, %d running, %d failed, eta %s", states.count("done"), len(states), len(self.running),
            states.count("failed"), self.eta(),
        )  # fmt: skip

    def eta(self) -> str:
        """An estimate of the time left for the whole sweep, from points of the same kind and stage that are done."""
        known: dict[tuple[str, str], list[float]] = {}
        for point in self.points:
            if self.ledger[point]["status"] == "done":
                known.setdefault((point.kind, point.stage), []).append(self.ledger[point]["seconds"])
        for running in self.running:
            total = self._expected(running)
            if total is not None:
                known.setdefault((running.point.kind, running.point.stage), []).append(total)
        under_way = {running.point.id: running for running in self.running}
        left, longest, unknown = 0.0, 0.0, False
        for point in self.points:
            entry = self.ledger[point]
            if entry["status"] in ("done", "failed"):
                continue
            totals = known.get((point.kind, point.stage))
            if totals is None:
                unknown = True
                continue
            spent = entry["seconds"] + (under_way[point.id].seconds if point.id in under_way else 0.0)
            seconds = max(0.0, sum(totals) / len(totals) - spent)
            left, longest = left + seconds, max(longest, seconds)
        seconds = max(left / self.launcher.slots, longest)
        if unknown and not seconds:
            return "not known yet"
        return f"{exact_duration(seconds)}{' or more' if unknown else ''}"

    def _expected(self, running: _Running) -> float | None:
        """Estimated seconds that a running training takes in all, from the iterations in its log."""
        found = _ITERATION.findall(_tail(running.point.log))
        if running.point.kind != "train" or not found:
            return None
        fraction = int(found[-1][0]) / int(found[-1][1])
        if running.fraction_at_start is None:
            running.fraction_at_start = fraction  # the log still ends with lines of an earlier start
        gained = fraction - running.fraction_at_start
        if gained <= 0:
            return None
        spent = self.ledger[running.point]["seconds"]
        return spent + running.seconds + (1 - fraction) * running.seconds / gained

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.received = signal.Signals(number)
        for running in self.running:
            running.job.stop()

    def _conclude(self) -> int:
        failed = [point for point in self.points if self.ledger[point]["status"] == "failed"]
        for point in failed:
            logger.error("failed: %s (log: %s): %s", point.id, point.log, self.ledger[point]["reason"])
        if self.received is not None:
            logger.info("stopped by %s; the same command continues", self.received.name)
            return 128 + self.received
        return 2 if failed else 0


def last_words(log: Path) -> str:
    """The last error in a log, or its last line if there is no error."""
    lines = [line for line in _tail(log).decode(errors="replace").splitlines() if line.strip()]
    errors = [index for index, line in enumerate(lines) if " ERROR: " in line]
    if errors and not any(line.startswith("Traceback") for line in lines[errors[-1] :]):
        return "\n".join(lines[errors[-1] :]).partition(" ERROR: ")[2]
    return lines[-1] if lines else "it said nothing"


def _ending(status: int) -> str:
    number = -status if status < 0 else status - 128
    if number in set(signal.Signals):
        return f"ended by {signal.Signals(number).name}"
    return f"exit status {status}"


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            return file.read()
    except OSError:
        return b""
