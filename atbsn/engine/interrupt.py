"""Ctrl-C and preemption: finish the step, save, and leave."""

import signal
from types import FrameType

import torch
from torch import distributed

from atbsn.utils.log import logger


class StopSignal:
    """Context in which SIGINT and SIGTERM ask the loop to stop instead of killing it; a second one kills.

    With several processes, all stop at the same iteration: the first at which any of them was asked.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def requested(self) -> bool:
        """Whether any process was asked to stop."""
        if not distributed.is_initialized():
            return self.received is not None
        asked = torch.tensor(float(self.received is not None), device=self.device)
        distributed.all_reduce(asked, distributed.ReduceOp.MAX)
        return bool(asked.item())

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.received = signal.Signals(number)
        logger.info("%s: finishing this iteration and saving; once more to stop at once", self.received.name)
        for handled, handler in self._previous.items():
            signal.signal(handled, handler)
