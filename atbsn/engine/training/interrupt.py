"""Ctrl-C and preemption: finish the iteration, save, and leave."""

import contextlib
import os
import signal
import stat
import time
from types import FrameType
from typing import Any

import torch
from torch import Tensor, distributed

from atbsn.utils import dist

STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)  # Windows has no SIGHUP, others no SIGBREAK
)
"""Signals that ask a training to stop."""
_ONE_REQUEST = 2.0
"""Seconds within which signals count as one request. Ctrl-C and schedulers signal a process and its launcher, and the
launcher passes the signal on to the process. Chosen by hand."""
_SAYS = "finishing this iteration and saving; once more leaves at once"


def _leave_the_terminal() -> None:
    """Discard output to the terminal, since every write to a closed one fails. Output to files and pipes stays."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(number).st_mode):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, number)
                os.close(null)


class StopSignal:
    """Context in which SIGINT, SIGTERM and SIGHUP (a closed terminal) ask the loop to stop instead of killing it.

    A second signal, at least two seconds later, kills the process, also in the middle of a validation. Since the state
    is saved before a validation begins, only the validation is lost, and the resumed run repeats it.

    Several processes all stop at the same iteration. They agree on the CPU, in the background: after each iteration a
    process tells whether it was asked to stop, and after the next one it learns whether any process was. Nothing waits
    for a GPU.

    After a request the handlers stay when the context ends, so that a repeated signal does not kill the process while
    it is leaving.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._since = 0.0
        self._previous: dict[signal.Signals, Any] = {}
        self._vote: tuple[Tensor, distributed.Work] | None = None

    def __enter__(self) -> "StopSignal":
        for number in STOPPING:
            self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self.received is None:
            self._give_back()
        if kind is None:
            self._agreed()

    def requested(self) -> bool:
        """Whether to stop after this iteration. All processes have to call this, and get the same answer."""
        if not distributed.is_initialized():
            return self.received is not None
        if number := self._agreed():
            self.received, self._since = signal.Signals(number), time.monotonic()
            return True
        asked = torch.tensor(int(self.received or 0))
        self._vote = asked, distributed.all_reduce(asked, distributed.ReduceOp.MAX, async_op=True)
        return False

    def _agreed(self) -> int:
        """The number of the signal that any process had received at the last vote, or 0."""
        if self._vote is None:
            return 0
        (asked, work), self._vote = self._vote, None
        work.wait()
        return int(asked)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received is None:
            self.received, self._since = signal.Signals(number), time.monotonic()
            if number == getattr(signal, "SIGHUP", None):
                _leave_the_terminal()
            if dist.is_main():  # not through the log, which the interrupted code may be writing to
                with contextlib.suppress(OSError):
                    os.write(2, f"\n{self.received.name}: {_SAYS}\n".encode())
        elif time.monotonic() - self._since > _ONE_REQUEST:
            self._give_back()
            signal.raise_signal(number)

    def _give_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
