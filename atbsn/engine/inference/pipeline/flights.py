"""The pictures in the pipeline at one time: those that are being read, denoised and written, and their results."""

import errno
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, NamedTuple, TypeVar

import torch

from atbsn.engine.inference.pipeline.memory import MemoryLimit
from atbsn.engine.inference.pipeline.steps import FileFacts, Loaded, Steps
from atbsn.engine.inference.pipeline.task import Refused, Task
from atbsn.engine.inference.samples import OnProgress
from atbsn.pictures import Picture, picture_size
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger

T = TypeVar("T")

_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors in writing one picture that every other picture would get, too: full disk, quota, read-only file system."""
_SMALL = 2**18
"""Bytes: size in pixels is not read before decoding for files below this size: it would take a tenth of their time.
Chosen by hand."""


class TaskResult(NamedTuple):
    """The result of one task.

    Attributes:
        task: the picture; or what a planner refused.
        reason: why it could not be done; None: it is done.
        skipped: whether it was done in an earlier run.
        seen: what the observer returned for it.
        seconds: time for reading, denoising and writing it.
    """

    task: Task | Refused
    reason: str | None = None
    skipped: bool = False
    seen: Any = None
    seconds: float = 0.0


@dataclass
class _Flight:
    """A picture in the pipeline.

    Attributes:
        held: bytes of ``MemoryLimit`` that are reserved for it.
        seconds: time that was spent on it.
    """

    task: Task
    held: int = 0
    seconds: float = 0.0
    reading: "Future[Loaded | None]" = field(default_factory=Future)
    writing: "Future[Any]" = field(default_factory=Future)


class Flights:
    """The pictures in the pipeline, in order.

    Args:
        steps: what is done to each picture.
        memory: limits the pictures that are in memory at one time.
        readers: threads that read.
        writers: threads that write.
        tell: called with the result of each picture, in the thread that calls the methods.
    """

    def __init__(
        self,
        steps: Steps,
        memory: MemoryLimit,
        readers: ThreadPoolExecutor,
        writers: ThreadPoolExecutor,
        tell: Callable[[TaskResult], None],
    ) -> None:
        self._steps, self._memory, self._readers, self._writers, self._tell = steps, memory, readers, writers, tell
        self._numbers = count()
        self._read: deque[_Flight] = deque()
        self._written: deque[_Flight] = deque()

    def begin(self, task: Task | Refused) -> None:
        """Start to read a picture, unless it was refused or is done already."""
        if isinstance(task, Refused):
            self._tell(TaskResult(task, task.reason))
            return
        facts, reason = _tried(task, partial(self._steps.check, task))
        if reason is None and facts is not None and self._steps.is_done(task, facts):
            self._tell(TaskResult(task, skipped=True))
        elif reason is not None:
            self._tell(TaskResult(task, reason))
        else:
            flight = _Flight(task)
            flight.reading = self._readers.submit(self._load, flight, facts, next(self._numbers))
            self._read.append(flight)

    def denoise(self, ahead: int, on_progress: OnProgress | None) -> None:
        """Denoise all but the last ``ahead`` of the pictures that are being read, and start to write them."""
        while len(self._read) > ahead:
            flight = self._read.popleft()
            loaded, reason = _tried(flight.task, flight.reading.result)
            clean = None
            if loaded is not None:
                denoise = partial(self._steps.clean, flight.task, loaded, self._watch(on_progress))
                clean, reason = _timed(flight, denoise)
            if loaded is None or clean is None:
                self._memory.resize(-flight.held)
                self._tell(TaskResult(flight.task, reason, skipped=reason is None))
            else:
                flight.writing = self._writers.submit(self._write, flight, loaded, clean)
                self._written.append(flight)

    def finish(self, ahead: int) -> None:
        """Wait for all but the last ``ahead`` of the pictures that are being written, and report their results."""
        while len(self._written) > ahead or (self._written and self._written[0].writing.done()):
            flight = self._written.popleft()
            seen, reason = _tried(flight.task, flight.writing.result)
            self._tell(TaskResult(flight.task, reason, seen=seen, seconds=flight.seconds))

    def _watch(self, on_progress: OnProgress | None) -> OnProgress | None:
        """``on_progress``, but each call also reports the pictures that have been written meanwhile."""
        if on_progress is None:
            return None

        def watch(share: float) -> None:
            self.finish(len(self._written))
            on_progress(share)

        return watch

    def settle(self) -> None:
        """After an interruption: wait for the pictures that are being written, and report those that are done."""
        for flight in self._written:
            if flight.writing.exception() is None:
                self._tell(TaskResult(flight.task, seen=flight.writing.result(), seconds=flight.seconds))

    def _load(self, flight: _Flight, facts: FileFacts | None, number: int) -> Loaded | None:
        size = _expected_size(flight.task, facts)
        self._memory.enter(number, size)
        flight.held = size
        start = time.perf_counter()
        loaded = self._steps.load(flight.task, facts)
        flight.seconds += time.perf_counter() - start
        if loaded is not None:
            flight.held = loaded.nbytes
            self._memory.resize(flight.held - size)
        return loaded

    def _write(self, flight: _Flight, loaded: Loaded, clean: Callable[[], Picture]) -> Any:
        start = time.perf_counter()
        try:
            return self._steps.write(flight.task, loaded, clean())
        finally:
            flight.seconds += time.perf_counter() - start
            self._memory.resize(-flight.held)


def _expected_size(task: Task, facts: FileFacts | None) -> int:
    """Bytes of the samples of a file, supposing 8 bits a sample; 0 for small files, which do not matter."""
    if task.source is None or facts is None or facts[0] < _SMALL:
        return 0
    try:
        height, width = picture_size(task.source)
    except UserError:  # decoding reports it
        return 0
    return 3 * height * width


def _timed(flight: _Flight, action: Callable[[], T]) -> tuple[T | None, str | None]:
    start = time.perf_counter()
    try:
        return _tried(flight.task, action)
    finally:
        flight.seconds += time.perf_counter() - start


def _tried(task: Task, action: Callable[[], T]) -> tuple[T | None, str | None]:
    """Call ``action``; returns its result, or None and the reason of its failure.

    A failure with one picture does not end the run; a full disk does.
    """
    try:
        return action(), None
    except UserError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _HOPELESS:
            raise
        return None, str(error).removeprefix(f"{task.label}: ")
    except (MemoryError, torch.OutOfMemoryError) as error:
        return None, f"out of memory ({error}); take smaller tiles (--tile, or test.tile)"
    except Exception as error:
        if "can't allocate memory" in str(error):
            return None, "out of memory; take smaller tiles (--tile, or test.tile)"
        logger.exception("a defect, please report it:")
        return None, f"a defect: {type(error).__name__}: {error}"
