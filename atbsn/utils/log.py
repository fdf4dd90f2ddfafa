"""The log: rank 0 speaks on the console and in the run's file, other processes only warn."""

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


class _Plain(logging.Formatter):
    """``message``, or ``WARNING: message``."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        return f"{record.levelname}: {message}" if record.levelno >= logging.WARNING else message


class _TqdmHandler(logging.Handler):
    """Writes above a running progress bar instead of through it. A run outlives the console it was started from."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record))
        except BrokenPipeError:  # nobody reads any more: what is still buffered must not fail at the end either
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError:  # the console is a file on a full disk, of which other files will tell
            pass


class _FileHandler(logging.FileHandler):
    """Says once on the console that the log cannot be written, instead of a traceback for every line."""

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
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may hold what the console has no letter for
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
def quiet(least: int = logging.WARNING) -> Iterator[None]:
    """Log only messages of level ``least`` or above inside."""
    level = logger.level
    logger.setLevel(least)
    try:
        yield
    finally:
        logger.setLevel(level)


def close_log() -> None:
    """Close the log's files."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        with contextlib.suppress(OSError):  # a full disk: said when the line was written
            handler.close()


def progress_bar(items: Iterable[T], description: str, total: int | None = None, unit: str = "it") -> "tqdm[T]":
    """A progress bar on rank 0's terminal; nothing elsewhere."""
    quiet = None if dist.is_main() else True  # None: no bar where the console is not a terminal
    return tqdm(items, desc=description, total=total, unit=unit, disable=quiet, leave=False, dynamic_ncols=True)


class Heartbeat:
    """Tells once a minute how far a loop is, where there is no terminal for a progress bar.

    Args:
        description: of what is done.
        total: how many there are.
        unit: what they are, in the plural.
    """

    _EVERY = 60.0
    """Seconds."""

    def __init__(self, description: str, total: int, unit: str) -> None:
        self._text, self._total, self._done = f"{description}: %d of %d {unit}, about %s left", total, 0
        self._start = self._said = time.monotonic()

    def one_more(self) -> None:
        """One of them is done."""
        self._done += 1
        now = time.monotonic()
        if now - self._said >= self._EVERY and self._done < self._total and not sys.stderr.isatty():
            self._said = now
            left = (now - self._start) / self._done * (self._total - self._done)
            logger.info(self._text, self._done, self._total, timedelta(seconds=round(left)))


@contextlib.contextmanager
def share_bar(description: str, total: int = 1) -> Iterator[Callable[..., None]]:
    """A progress bar for things done in parts: gives ``show(done, what="")``, told how many are done, such as 0.4."""
    with progress_bar([], description, total=total) as bar:
        bar.bar_format = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"

        def show(done: float, what: str = "") -> None:
            if what:
                bar.set_description(what, refresh=False)
            bar.n = done
            bar.update(0)

        yield show
