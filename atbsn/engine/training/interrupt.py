"""Ctrl-C and preemption: finish the step, save, and leave."""

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
_ONE_REQUEST = 2.0
"""Seconds: Ctrl-C and schedulers signal a process and its launcher, which passes the signal on to the process."""

_SAYS = "finishing this iteration and saving; once more leaves at once"


def _leave_the_terminal() -> None:
    """A closed terminal fails at every write: send what was meant for it nowhere. Files and pipes stay."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(number).st_mode):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, number)
                os.close(null)


class StopSignal:
    """Context in which SIGINT, SIGTERM and SIGHUP (a closed terminal) ask the loop to stop instead of killing it.

    Once more, later, kills, in the middle of a validation too: the state is saved before one begins, so nothing is
    lost but the validation, which the resumed run makes up for.

    With several processes all stop at the same iteration. They agree on the CPU, in the background: a process says
    after an iteration whether it was asked, and learns after the next one whether any was. Nothing waits for a GPU.

    A process that was asked leaves soon; until then the context's handlers stay, so that the same request, arriving
    once more, does not cut its leaving short.
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
        """Whether to stop after this iteration; the same answer in every process, which all have to ask."""
        if not distributed.is_initialized():
            return self.received is not None
        if number := self._agreed():
            self.received, self._since = signal.Signals(number), time.monotonic()
            return True
        asked = torch.tensor(int(self.received or 0))
        self._vote = asked, distributed.all_reduce(asked, distributed.ReduceOp.MAX, async_op=True)
        return False

    def _agreed(self) -> int:
        """The signal that any process had received at the last vote, or 0."""
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
            if dist.is_main():  # past the log: what was interrupted may be writing to it
                with contextlib.suppress(OSError):
                    os.write(2, f"\n{self.received.name}: {_SAYS}\n".encode())
        elif time.monotonic() - self._since > _ONE_REQUEST:
            self._give_back()
            signal.raise_signal(number)

    def _give_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
