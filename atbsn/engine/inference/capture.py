"""Passes that are repeated as CUDA graphs: all kernels of a pass are started at once instead of one by one."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from atbsn.engine.inference.tiling import Function
from atbsn.utils.log import logger

_KEPT = 4
"""Most graphs that are kept for a network: for upright and horizontal pictures of two cameras. Chosen by hand; they
share their memory."""


class Graph:
    """One pass over an input of one size. It reads the weights in place, so a training may change their values."""

    def __init__(self, function: Function, x: Tensor, pool: Any) -> None:
        self._input = x.clone()
        self._graph = torch.cuda.CUDAGraph()
        cached = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)  # else the graph would read casts that are freed after an earlier pass
        try:
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                self._output = function(self._input)
        finally:
            torch.set_autocast_cache_enabled(cached)

    def __call__(self, x: Tensor) -> Tensor:
        """The result, in memory of its own: the next call does not overwrite it."""
        self._input.copy_(x)
        self._graph.replay()
        return self._output.clone()


class Graphs:
    """The graphs of one network.

    The first pass of a size runs without a graph, the second is captured, and later ones are replayed. A pass that
    cannot be captured, because it reads values from the device, always runs without.
    """

    def __init__(self, capture: Callable[[Function, Tensor, Any], Function] = Graph) -> None:
        self._capture = capture
        self._met: OrderedDict[Hashable, Function | None] = OrderedDict()
        self._refused: set[Hashable] = set()
        self._pool: Any = None  # torch's handle of the memory that they share
        self._lock = threading.Lock()  # graphs share their inputs and memory, so only one may run

    def __call__(self, key: Hashable, function: Function, x: Tensor) -> Tensor:
        """Return ``function(x)``.

        Args:
            key: equal for equal functions with the same weights.
        """
        key = key, tuple(x.shape), x.stride(), x.dtype, x.device
        with self._lock:
            if key in self._met and (replay := self._met[key] or self._captured(key, function, x)):
                self._keep(key, replay)
                return replay(x)
            if key not in self._refused:
                self._keep(key, None)
        return function(x)

    def clear(self) -> None:
        """Forget all graphs and free their memory."""
        with self._lock:
            self._met.clear()
            self._pool = None

    def _keep(self, key: Hashable, replay: Function | None) -> None:
        self._met[key] = replay
        self._met.move_to_end(key)
        while len(self._met) > _KEPT:
            self._met.popitem(last=False)

    def _captured(self, key: Hashable, function: Function, x: Tensor) -> Function | None:
        if self._pool is None and x.is_cuda:
            self._pool = torch.cuda.graph_pool_handle()
        try:
            return self._capture(function, x, self._pool)
        except RuntimeError as error:  # also a lack of memory: the graph needs its own beside that of earlier passes
            logger.debug("no CUDA graph of %s: %s", key, error)
        del self._met[key]
        self._refused.add(key)
        return None
