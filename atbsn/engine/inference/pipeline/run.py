"""From files to files: reading, denoising and writing at once, in memory that does not grow with their number."""

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
"""Bytes of samples for each thread that reads or writes: a picture of 22 megapixels and 8 bits."""


@dataclass(frozen=True)
class Concurrency:
    """How much goes on at once.

    Attributes:
        readers: threads that read; as many pictures are read ahead.
        writers: threads that write; twice as many pictures may be on their way to the disk.
        memory: bytes of samples in memory; a single picture may be larger. Beside a CPU so little that pictures of 12
            megapixels and more are done one after another: reading ahead would save a fiftieth of the time.
    """

    readers: int = 2
    writers: int = 2
    memory: int = _A_THREAD

    @classmethod
    def for_device(cls, device: torch.device) -> "Concurrency":
        """Beside a CPU two threads of each kind keep up. A GPU, faster than one can read, is fed by all there are."""
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

    They are taken from ``tasks`` as they are needed, denoised in that order one after another, and written whole: a
    process that is killed loses what it was about, no more. A picture that cannot be read, denoised or written does not
    end the others; a full disk does. What is raised elsewhere, such as Ctrl-C, lets what is being written be finished.

    Args:
        tell: is told of every picture what became of it, in this thread.
        read: reads a picture file.
        observer: looks at pictures before and after.
        record: notes what is done and what failed, and leaves out what was done before.
        on_progress: is told, 0 to 1, how far the picture is that is being denoised.
        concurrency: None: what suits the device.

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
    """One picture as ``run`` does it, but what goes wrong is raised; what the observer gives of it.

    Raises:
        UserError: it cannot be read, denoised or written.
    """
    steps = Steps(denoiser, read, observer or Observer())
    loaded = steps.load(task, steps.check(task))
    assert loaded is not None, "without a record nothing is done before"
    return steps.write(task, loaded, steps.clean(task, loaded, on_progress)())
