"""Reports the progress of a run: a bar on a terminal, and a line every ten minutes in the log."""

import time
from collections.abc import Callable, Iterable
from threading import Event, Thread

from tqdm import tqdm

from atbsn.engine.inference.pipeline.run import TaskResult
from atbsn.utils import dist
from atbsn.utils.log import logger

_EVERY = 600.0
"""Seconds between two lines in the log. Chosen by hand."""
_IN_PARTS = 100
"""Most pictures for which the bar also shows parts of a picture; with more, the parts are too small to see. Chosen by
hand."""


class Progress:
    """Shows the number of pictures done, the rate, and the time left if the total is known.

    Args:
        description: what is done, for the bar and the log.
        total: number of all pictures, those done before included; or a function that lists them, which is called in a
            thread of its own.
    """

    def __init__(self, description: str, total: int | Callable[[], Iterable[object]]) -> None:
        self._description = description
        self._total = total if isinstance(total, int) else None
        self._stop = Event()
        self._start = self._said = time.monotonic()
        self.skipped = self.done = self.failed = 0
        quiet = None if dist.is_main() else True  # None: no bar where the console is not a terminal
        self.in_parts = self._total is not None and self._total <= _IN_PARTS
        shape = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}" if self.in_parts else None
        self._bar = tqdm(
            desc=description, total=self._total, unit="image", disable=quiet, leave=False, dynamic_ncols=True,
            smoothing=0, bar_format=shape,
        )  # fmt: skip
        self._counter: Thread | None = None
        if not isinstance(total, int):
            self._counter = Thread(target=self._count, args=(total,), daemon=True)
            self._counter.start()

    def part(self, share: float) -> None:
        """Show the share, 0 to 1, of the next picture that is denoised."""
        if not self._bar.disable:
            self._bar.n = self.skipped + self.done + self.failed + share
            self._bar.update(0)

    def tell(self, result: TaskResult) -> None:
        """Count one more picture. Pictures that were done before do not count for the rate."""
        if result.skipped:
            self.skipped += 1
            if not self._bar.disable:
                self._bar.initial += 1
                self._bar.update(1)
            return
        self.failed += result.reason is not None
        self.done += result.reason is None
        self._bar.total = self._total
        if not self._bar.disable:
            self._bar.n = self.skipped + self.done + self.failed
            self._bar.update(0)
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
        """Remove the bar, and end the listing."""
        self._stop.set()
        if self._counter is not None:
            self._counter.join()
        self._bar.close()

    def _count(self, names: Callable[[], Iterable[object]]) -> None:
        total = 0
        for _ in names():
            total += 1
            if self._stop.is_set():
                return
        self._total = total
