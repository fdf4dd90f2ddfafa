"""How far a run over an unknown number of pictures is: a bar on a terminal, a line now and then in a log."""

import time
from collections.abc import Callable, Iterable
from threading import Event, Thread

from tqdm import tqdm

from atbsn.utils import dist
from atbsn.utils.log import logger

_EVERY = 600.0
"""Seconds between two lines in the log."""


class Progress:
    """Count, rate, and, once a second listing has come to its end, what is left.

    Args:
        description: of what is done.
        names: lists all that there is to do, done already or not; called in a thread of its own.
    """

    def __init__(self, description: str, names: Callable[[], Iterable[object]]) -> None:
        self._description = description
        self._total: int | None = None
        self._stop = Event()
        self._start = self._said = time.monotonic()
        self.skipped = self.done = self.failed = 0
        quiet = None if dist.is_main() else True  # None: no bar where the console is not a terminal
        self._bar = tqdm(desc=description, unit="image", disable=quiet, leave=False, dynamic_ncols=True, smoothing=0)
        self._counter = Thread(target=self._count, args=(names,), daemon=True)
        self._counter.start()

    def skip(self) -> None:
        """One was done before; it says nothing about the rate."""
        self.skipped += 1
        if not self._bar.disable:
            self._bar.initial += 1
            self._bar.update(1)

    def step(self, failed: bool) -> None:
        """One more is done, or could not be."""
        self.failed += failed
        self.done += not failed
        self._bar.total = self._total
        self._bar.update(1)
        if time.monotonic() - self._said > _EVERY:
            self._said = time.monotonic()
            logger.info("%s: %s", self._description, self)

    def __str__(self) -> str:
        made = self.done + self.failed
        rate = made / max(time.monotonic() - self._start, 1e-9)
        text = f"{self.skipped + made:,}" + (f" of {self._total:,}" if self._total is not None else " so far")
        text += f", {self.failed:,} of them failed" if self.failed else ""
        if self._total is None or not made:
            return f"{text}; {rate:.3g} images/s"
        left = max(0, self._total - self.skipped - made) / rate
        return f"{text}; {rate:.3g} images/s, {left / 3600:.1f} hours left"

    def close(self) -> None:
        """Take the bar away, and end the listing."""
        self._stop.set()
        self._counter.join()
        self._bar.close()

    def _count(self, names: Callable[[], Iterable[object]]) -> None:
        total = 0
        for _ in names():
            total += 1
            if self._stop.is_set():
                return
        self._total = total
