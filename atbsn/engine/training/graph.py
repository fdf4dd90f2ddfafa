"""A whole training iteration as one CUDA graph, which starts all kernels at once instead of one by one from Python.

With light networks, most time goes into starting kernels: seven teachers and a student on 8 x 128 x 128 need hundreds
of kernels of a few microseconds each. The graph holds the whole iteration: losses, backward pass, clipping, optimizer,
average, and the check for finite values. The learning rate and the progress are tensors that it reads. The kernels are
those of an iteration without a graph, in the same order, and the random numbers are the same.
"""

import random
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from atbsn.engine.training.step import Batch, Outcome, TrainingStep
from atbsn.utils.errors import UserError, in_a_phrase
from atbsn.utils.log import logger

WARM_UP = 3
"""Iterations before the capture. The first compiles and makes the optimizer's moments, the second uses both, and the
last is watched for operations that a graph cannot repeat. They train like any other iteration."""


class Recorder(Protocol):
    """Records an iteration and repeats it: ``CudaRecorder``, or a stand-in in tests."""

    def warm_up(self, step: TrainingStep, batches: Sequence[Batch], progress: Tensor) -> Outcome:
        """Make an iteration in the way in which it will be recorded."""
        ...

    def watch(self, step: TrainingStep, batches: Sequence[Batch], progress: Tensor) -> tuple[Outcome, str | None]:
        """Make an iteration, and say what in it cannot be recorded; None if all can."""
        ...

    def record(self, step: TrainingStep, batches: Sequence[Batch], progress: Tensor) -> Outcome:
        """Record an iteration without making it. Every ``replay`` fills the tensors that are returned."""
        ...

    def replay(self) -> None:
        """Make the recorded iteration with the present values of its inputs."""
        ...


class GraphedStep:
    """A ``TrainingStep`` that is recorded after a few iterations and replayed from then on.

    A method whose losses read values from the device, or draw random numbers on the host, is not recorded; the log says
    so.

    Args:
        step: the step to record.
        recorder: records it.
    """

    def __init__(self, step: TrainingStep, recorder: Recorder) -> None:
        self.step, self.recorder = step, recorder
        self._made = 0
        self._possible = True
        self._outcome: Outcome | None = None
        self._batches: list[Batch] = []
        groups = step.learner.optimizer.param_groups
        self._rates = [torch.zeros((), device=step.device) for _ in groups]

    @property
    def captured(self) -> bool:
        """Whether the step is recorded and replayed."""
        return self._outcome is not None

    def __call__(self, micro_batches: Sequence[Batch], progress: Tensor) -> Outcome:
        """As ``TrainingStep``. The next call overwrites the tensors that are returned."""
        if not self._possible:
            return self.step(micro_batches, progress)
        self._take(micro_batches, progress)
        groups = self.step.learner.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        for group, rate, value in zip(groups, self._rates, rates, strict=True):
            group["lr"] = rate.fill_(value)
        try:
            return self._make()
        finally:  # for the schedule, the log and the state, rates are numbers
            for group, value in zip(groups, rates, strict=True):
                group["lr"] = value

    def _take(self, micro_batches: Sequence[Batch], progress: Tensor) -> None:
        """Copy the inputs of an iteration to the tensors that the graph reads."""
        given = [*micro_batches, {"progress": progress}]
        if not self._batches:
            device = self.step.device
            self._batches = [{name: torch.empty_like(x, device=device) for name, x in each.items()} for each in given]
        for own, batch in zip(self._batches, given, strict=True):
            for name, value in batch.items():
                own[name].copy_(value, non_blocking=True)

    def _make(self) -> Outcome:
        *batches, last = self._batches
        given = self.step, batches, last["progress"]
        self._made += 1
        if self._made < WARM_UP:
            return self.recorder.warm_up(*given)
        if self._made == WARM_UP:
            outcome, obstacle = self.recorder.watch(*given)
            if obstacle is not None:
                self._possible = False
                logger.info("%s trains without a CUDA graph: it %s", type(self.step.learner.model).__name__, obstacle)
            return outcome
        if self._outcome is None:
            self._outcome = self.recorder.record(*given)
        elif self.step.learner.ema is not None:
            self.step.learner.ema.n_averaged += 1  # this counter is on the host, so the graph does not change it
        self.recorder.replay()
        return self._outcome


class CudaRecorder:
    """Records an iteration as a CUDA graph."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graph = torch.cuda.CUDAGraph()
        self._stream = torch.cuda.Stream(device)

    def warm_up(self, step: TrainingStep, batches: Sequence[Batch], progress: Tensor) -> Outcome:
        """Run on a separate stream, so that libraries allocate the workspaces that a capture needs."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            outcome = step(batches, progress)
        current.wait_stream(self._stream)
        return outcome

    def watch(self, step: TrainingStep, batches: Sequence[Batch], progress: Tensor) -> tuple[Outcome, str | None]:
        drawn, on_host = torch.cuda.get_rng_state(self._device), _host_generators()
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            outcome = self.warm_up(step, batches, progress)
        except RuntimeError as error:
            if "synchronizing" not in str(error):
                raise
            torch.cuda.set_sync_debug_mode(mode)
        else:
            return outcome, None if _host_generators() == on_host else "draws random numbers on the host"
        finally:
            torch.cuda.set_sync_debug_mode(mode)
        torch.cuda.set_rng_state(drawn, self._device)
        step.learner.optimizer.zero_grad(set_to_none=True)
        return self.warm_up(step, batches, progress), "waits for the device, or copies to it from pageable memory"

    def record(self, step: TrainingStep, batches: Sequence[Batch], progress: Tensor) -> Outcome:
        try:  # thread_local, because a thread of the loader pins memory at the same time
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                return step(batches, progress)
        except RuntimeError as error:
            raise UserError(
                f"train.cuda_graph: this training cannot be captured ({in_a_phrase(error)}); set train.cuda_graph=false"
            ) from error

    def replay(self) -> None:
        self._graph.replay()


def _host_generators() -> tuple[Any, ...]:
    """The states of the generators of Python, NumPy and torch on the CPU."""
    numpy = np.random.get_state(legacy=True)  # noqa: NPY002
    return random.getstate(), str(numpy), torch.get_rng_state().numpy().tobytes()
