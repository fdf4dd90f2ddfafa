"""Passes that are repeated, as CUDA graphs: all kernels of a pass are started at once, none of them by Python."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from atbsn.engine.inference.tiling import Function
from atbsn.utils.log import logger

_KEPT = 4
"""Graphs that are kept of a network: pictures upright and across, of two cameras. They share their memory."""


class Graph:
    """One pass over one size. It reads the weights where they lie, so a training may go on changing their values."""

    def __init__(self, function: Function, x: Tensor, pool: Any) -> None:
        self._input = x.clone()
        self._graph = torch.cuda.CUDAGraph()
        cached = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)  # the graph would read casts of earlier passes, which go when they end
        try:
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                self._output = function(self._input)
        finally:
            torch.set_autocast_cache_enabled(cached)

    def __call__(self, x: Tensor) -> Tensor:
        """The result, which is the caller's: the next call leaves it alone."""
        self._input.copy_(x)
        self._graph.replay()
        return self._output.clone()


class Graphs:
    """The graphs of one network.

    A pass is done as it is the first time that its size comes, captured the second time, and replayed from then on. One
    that cannot be captured, since it looks at values, stays as it is.
    """

    def __init__(self, capture: Callable[[Function, Tensor, Any], Function] = Graph) -> None:
        self._capture = capture
        self._met: OrderedDict[Hashable, Function | None] = OrderedDict()
        self._refused: set[Hashable] = set()
        self._pool: Any = None  # torch's handle of it
        self._lock = threading.Lock()  # their inputs and memory are shared

    def __call__(self, key: Hashable, function: Function, x: Tensor) -> Tensor:
        """``function(x)``.

        Args:
            key: equal keys stand for equal functions of the same weights.
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
        """Give their memory back."""
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
        except RuntimeError as error:  # also of memory: the graph lies beside what the pass before it has taken
            logger.debug("no CUDA graph of %s: %s", key, error)
        del self._met[key]
        self._refused.add(key)
        return None
