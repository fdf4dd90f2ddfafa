"""Batches of patches in worker processes, the same for any number of them."""

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
    """The sample numbers of each micro-batch of one rank, from iteration ``start_iter`` to ``total_iter``.

    Micro-batch m of all ranks together takes the samples [mG, (m + 1)G), G = ``batch_size * world_size``;
    each rank takes its contiguous part. An iteration is ``accumulate`` micro-batches.

    Args:
        batch_size: patches a rank and micro-batch.
        start_iter: iterations already done; a resumed run continues the very same samples.
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
    """A loader of one batch for each entry of ``numbers``, for one pass over it.

    Batches are ``{"noisy": (B, P, P, 3), "orientation": (B,), "index": (B,)}``, for ``to_batch``. They
    do not depend on the number of workers; their union over an iteration does not depend on how ranks, batch
    size and accumulation share the same number of samples.

    Args:
        num_workers: processes a rank; 0 loads in this process.
        pin_memory: for copies to a GPU that overlap with work on it.
    """
    num_workers = min(num_workers, os.cpu_count() or 1)  # more would only take turns; batches are the same
    # Forked workers share the decoded pictures; elsewhere each worker gets a copy.
    context = "fork" if num_workers > 0 and sys.platform == "linux" else None
    return DataLoader(
        cast(Dataset[dict[str, Tensor]], patches),  # numbers become tensors where samples are collated
        batch_sampler=numbers,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        multiprocessing_context=context,
        prefetch_factor=4 if num_workers > 0 else None,
        generator=torch.Generator(),  # its worker seed must not draw from, and so shift, the global generator
    )


def _start_worker(worker: int) -> None:
    """One thread a worker; signals are the main process's to handle, which then leaves transfers half done."""
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
    """Leave at the main process's own SIGTERM only: schedulers send theirs to every process, torchrun once more.

    A worker that obeyed them would end the main process, which still has a step to finish and a state to save.
    """
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


def _report_all_but_hang_ups(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)
