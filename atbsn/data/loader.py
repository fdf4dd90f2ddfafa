"""Load batches of patches in worker processes. The batches do not depend on the number of processes."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import cast

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from atbsn.data.patches import PatchDataset


class SampleNumbers(Sampler[list[int]]):
    """Yields the sample numbers of each micro-batch of one rank, from iteration ``start_iter`` to ``total_iter``.

    Micro-batch m of all ranks together has the samples [mG, (m + 1)G), with G = ``batch_size * world_size``. Each rank
    takes a contiguous part of them. An iteration has ``accumulate`` micro-batches.

    Args:
        batch_size: number of patches in a micro-batch of one rank.
        total_iter: number of iterations of the whole training.
        start_iter: iterations already done; a resumed run continues with exactly the same samples.
        accumulate: number of micro-batches in an iteration.
        rank, world_size: this process, and the number of processes.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        total_iter: int,
        start_iter: int = 0,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.batch_size = batch_size
        self.micro_batches = range(start_iter * accumulate, total_iter * accumulate)
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return len(self.micro_batches)

    def __iter__(self) -> Iterator[list[int]]:
        for micro_batch in self.micro_batches:
            first = (micro_batch * self.world_size + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


def train_loader(
    patches: PatchDataset, numbers: SampleNumbers, *, num_workers: int, pin_memory: bool = False
) -> DataLoader[dict[str, Tensor]]:
    """Make a loader that yields one batch for each entry of ``numbers``, once.

    Batches are ``{"noisy": (B, P, P, 3), "orientation": (B,), "index": (B,)}``, for ``to_batch``. They do not depend on
    the number of workers. The samples of an iteration do not depend on how they are divided into ranks, batches and
    accumulation.

    Args:
        num_workers: number of processes of each rank; 0 loads in this process.
        pin_memory: pin the memory of the batches, so that copies to a GPU overlap with the computation.
    """
    num_workers = min(num_workers, os.cpu_count() or 1)  # more would only wait for each other
    # Forked workers share the decoded pictures. On other systems each worker gets a copy.
    context = "fork" if num_workers > 0 and sys.platform == "linux" else None
    return DataLoader(
        cast(Dataset[dict[str, Tensor]], patches),  # numbers become tensors where samples are collated
        batch_sampler=numbers,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        multiprocessing_context=context,
        prefetch_factor=4 if num_workers > 0 else None,
        generator=torch.Generator(),  # so that the seeds of workers are not drawn from the global generator
    )


def _start_worker(worker: int) -> None:
    """Set up a worker: one thread, and no reaction to signals, which the main process handles."""
    del worker
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on Windows and macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_with_the_main_process, daemon=True).start()
    sys.excepthook = _report_all_but_hang_ups
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _end_with_the_main_process() -> None:
    """End this worker at a SIGTERM from the main process only; schedulers and torchrun send theirs to every process.

    If a worker ended at those, the main process would fail, which still has a step to finish and a state to save.
    """
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


def _report_all_but_hang_ups(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback unless the main process has ended while a worker sent it something."""
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)
