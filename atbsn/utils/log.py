"""The log: rank 0 speaks on the console and in the run's file, other processes only warn."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from atbsn.utils import dist

T = TypeVar("T")

logger = logging.getLogger("atbsn")


class _TqdmHandler(logging.Handler):
    """Writes above a running progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record))


def set_up_log(file: Path | None = None) -> None:
    """Send the log to the console and, on rank 0, to ``file``. Calling it again replaces the handlers."""
    close_log()
    logger.setLevel(logging.INFO if dist.is_main() else logging.WARNING)
    logger.propagate = False
    handlers: list[logging.Handler] = [_TqdmHandler()]
    if file is not None and dist.is_main():
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s", "%Y-%m-%d %H:%M:%S"))
        logger.addHandler(handler)


def close_log() -> None:
    """Close the log's files."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def progress_bar(items: Iterable[T], description: str, total: int | None = None, unit: str = "it") -> "tqdm[T]":
    """A progress bar on rank 0's terminal; nothing elsewhere."""
    quiet = None if dist.is_main() else True  # None: no bar where the console is not a terminal
    return tqdm(items, desc=description, total=total, unit=unit, disable=quiet, leave=False, dynamic_ncols=True)
