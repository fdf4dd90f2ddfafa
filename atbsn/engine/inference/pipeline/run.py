"""Read, denoise and write pictures at the same time. The memory needed does not grow with their number."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.pipeline.flights import Flights, TaskResult
from atbsn.engine.inference.pipeline.memory import MemoryLimit
from atbsn.engine.inference.pipeline.record import Record
from atbsn.engine.inference.pipeline.steps import Observer, Read, Steps
from atbsn.engine.inference.pipeline.task import Refused, Task
from atbsn.engine.inference.samples import OnProgress
from atbsn.pictures import read_picture

__all__ = ["Concurrency", "TaskResult", "denoise_file", "run"]

_A_THREAD = 2**26
"""Bytes of samples for each thread that reads or writes: one picture of 22 megapixels and 8 bits. Chosen by hand."""


@dataclass(frozen=True)
class Concurrency:
    """How many pictures are read and written at the same time.

    Attributes:
        readers: threads that read; as many pictures are read ahead.
        writers: threads that write; twice as many pictures may wait to be written.
        memory: most bytes of samples in memory; a single picture may be larger. With a CPU it is so small that pictures
            of 12 megapixels and more are done one after another: reading ahead would save a fiftieth of the time.
    """

    readers: int = 2
    writers: int = 2
    memory: int = _A_THREAD

    @classmethod
    def for_device(cls, device: torch.device) -> "Concurrency":
        """For a CPU, two threads of each kind are enough. A GPU is faster than reading, so all cores read and write."""
        if device.type == "cpu":
            return cls()
        threads = max(2, os.cpu_count() or 2)
        return cls(threads, threads, 2 * threads * _A_THREAD)


def run(
    tasks: Iterable[Task | Refused],
    denoiser: Denoiser,
    tell: Callable[[TaskResult], None],
    *,
    read: Read = read_picture,
    observer: Observer | None = None,
    record: Record | None = None,
    on_progress: OnProgress | None = None,
    concurrency: Concurrency | None = None,
) -> None:
    """Denoise pictures.

    They are taken from ``tasks`` when they are needed, denoised one after another in that order, and each file is
    written completely or not at all: killing the process loses only the pictures in the pipeline. A picture that cannot
    be read, denoised or written does not end the run; a full disk does. After any other exception, such as Ctrl-C,
    files that are being written are finished first.

    Args:
        tell: called with the result of every picture, in this thread.
        read: reads a picture file.
        observer: looks at pictures before and after.
        record: notes which pictures are done and which failed, and leaves out those done before.
        on_progress: called with the share, 0 to 1, of the current picture that is denoised.
        concurrency: None: as suits the device.

    Raises:
        UserError: the disk is full.
    """
    steps = Steps(denoiser, read, observer or Observer(), record)
    concurrency = concurrency or Concurrency.for_device(denoiser.device)

    def told(result: TaskResult) -> None:
        if result.reason is not None and record is not None:
            record.fail(result.task.label, result.reason)
        tell(result)

    memory = MemoryLimit(concurrency.memory)
    with ThreadPoolExecutor(concurrency.readers) as readers, ThreadPoolExecutor(concurrency.writers) as writers:
        flights = Flights(steps, memory, readers, writers, told)
        try:
            for task in tasks:
                flights.begin(task)
                flights.denoise(concurrency.readers, on_progress)
                flights.finish(2 * concurrency.writers)
            flights.denoise(0, on_progress)
            flights.finish(0)
        except BaseException:
            memory.close()
            flights.settle()
            raise


def denoise_file(
    task: Task,
    denoiser: Denoiser,
    *,
    read: Read = read_picture,
    observer: Observer | None = None,
    on_progress: OnProgress | None = None,
) -> Any:
    """Denoise one picture as ``run`` does, but raise errors; returns what the observer returned.

    Raises:
        UserError: it cannot be read, denoised or written.
    """
    steps = Steps(denoiser, read, observer or Observer())
    loaded = steps.load(task, steps.check(task))
    assert loaded is not None, "without a record nothing is done before"
    return steps.write(task, loaded, steps.clean(task, loaded, on_progress)())
