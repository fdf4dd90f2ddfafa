"""The log and progress bars. Rank 0 writes to the console and to the run's file; other processes only warn."""

import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from atbsn.utils import dist

T = TypeVar("T")

logger = logging.getLogger("atbsn")

_WITH_TIME = "%(asctime)s %(levelname)s: %(message)s"
"""Format of the lines of a log."""


class _Plain(logging.Formatter):
    """``message``, or ``WARNING: message``."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        return f"{record.levelname}: {message}" if record.levelno >= logging.WARNING else message


class _TqdmHandler(logging.Handler):
    """Writes above a running progress bar, not into it. A run goes on if its console is closed."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record))
        except BrokenPipeError:  # nobody reads any more; what is still buffered must not fail at the end either
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError:  # the console is a file on a full disk; writing other files will report that
            pass


class _FileHandler(logging.FileHandler):
    """Warns once on the console if the log file cannot be written, instead of a traceback for every line."""

    def handleError(self, record: logging.LogRecord) -> None:
        del record
        logger.removeHandler(self)
        error = sys.exc_info()[1]
        logger.warning("%s: the log cannot be written any more (%s); free some space", self.baseFilename, error)


def set_up_log(file: Path | None = None, plain: bool = False) -> None:
    """Send the log to the console and, on rank 0, to ``file``. Calling it again replaces the handlers.

    Args:
        plain: lines without a time, and without a level unless something is wrong.
    """
    close_log()
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may have characters that the console cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handlers: list[logging.Handler] = [_TqdmHandler()]
    if file is not None and dist.is_main():
        handlers.append(_FileHandler(file, encoding="utf-8", errors="backslashreplace"))
    for handler in handlers:
        handler.addFilter(lambda record: dist.is_main() or record.levelno >= logging.WARNING)
        handler.setFormatter(_Plain() if plain else logging.Formatter(_WITH_TIME, "%Y-%m-%d %H:%M:%S"))
        logger.addHandler(handler)


@contextlib.contextmanager
def quiet(min_level: int = logging.WARNING) -> Iterator[None]:
    """Log only messages of level ``min_level`` or above inside of the ``with`` block."""
    level = logger.level
    logger.setLevel(min_level)
    try:
        yield
    finally:
        logger.setLevel(level)


def close_log() -> None:
    """Close the log's files and remove all handlers."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        with contextlib.suppress(OSError):  # a full disk, which was reported when the line was written
            handler.close()


def progress_bar(items: Iterable[T], description: str, total: int | None = None, unit: str = "it") -> "tqdm[T]":
    """Show a progress bar over ``items`` on the terminal of rank 0, and nothing elsewhere."""
    quiet = None if dist.is_main() else True  # None: no bar where the console is not a terminal
    return tqdm(items, desc=description, total=total, unit=unit, disable=quiet, leave=False, dynamic_ncols=True)


class Heartbeat:
    """Logs once a minute how far a loop is, if there is no terminal for a progress bar.

    Args:
        description: what is done.
        total: number of items.
        unit: name of the items, in the plural.
    """

    _EVERY = 60.0
    """Seconds between two messages. Chosen by hand."""

    def __init__(self, description: str, total: int, unit: str) -> None:
        self._text, self._total, self._done = f"{description}: %d of %d {unit}, about %s left", total, 0
        self._start = self._said = time.monotonic()

    def one_more(self) -> None:
        """Count one more item as done."""
        self._done += 1
        now = time.monotonic()
        if now - self._said >= self._EVERY and self._done < self._total and not sys.stderr.isatty():
            self._said = now
            left = (now - self._start) / self._done * (self._total - self._done)
            logger.info(self._text, self._done, self._total, timedelta(seconds=round(left)))


@contextlib.contextmanager
def share_bar(description: str, total: int = 1) -> Iterator[Callable[..., None]]:
    """Show a progress bar for work that is not counted in items.

    It gives a function ``show(done, what="")``. ``done`` is the part of ``total`` that is done, such as 0.4, and
    ``what`` a new description.
    """
    with progress_bar([], description, total=total) as bar:
        bar.bar_format = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"

        def show(done: float, what: str = "") -> None:
            if what:
                bar.set_description(what, refresh=False)
            bar.n = done
            bar.update(0)

        yield show
