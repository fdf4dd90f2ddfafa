"""What is remembered of a network from one picture to the next: its memory, its plans and its CUDA graphs."""

from collections.abc import Callable, Hashable
from weakref import WeakKeyDictionary

import torch
from torch import nn

from atbsn.engine.inference.capture import Graphs
from atbsn.engine.inference.plan import SMALL, UNKNOWN, ComputeOptions, DeviceFacts, DevicePlan
from atbsn.utils.log import logger


class NetworkCache:
    """The measured memory, the plans and the graphs of one network.

    Attributes:
        graphs: its passes that are replayed on a GPU.
    """

    def __init__(self) -> None:
        self.graphs = Graphs()
        self._costs: dict[Hashable, float] = {}
        self._plans: dict[Hashable, DevicePlan] = {}
        self._need = 1.0

    def plan(
        self,
        device: torch.device,
        asked: ComputeOptions,
        size: tuple[int, int],
        what: Hashable,
        measure: Callable[[], float],
        sees_whole_tile: bool = False,
        multiple: int = 1,
        compiled: bool = False,
    ) -> DevicePlan:
        """The plan for pictures of this size. It stays the same unless memory did not suffice.

        Args:
            what: key of the computation; equal for equal ones.
            measure: measures the bytes a pixel that the computation needs. It is called at most once for each ``what``,
                and only on a GPU.
            asked, sees_whole_tile, multiple, compiled: as in ``DevicePlan.make``.
        """
        key = device, asked, size, what, compiled
        if key not in self._plans:
            if device.type == "cuda" and size[0] * size[1] > SMALL and (device, what) not in self._costs:
                self._costs[device, what] = measure()
            cost = self._costs.get((device, what), UNKNOWN) * self._need
            facts = DeviceFacts.of(device)
            self._plans[key] = DevicePlan.make(facts, asked, size, cost, sees_whole_tile, multiple, compiled)
        return self._plans[key]

    def on_shortage(self, tiles: int, height: int, width: int) -> None:
        """Note that memory did not suffice for these tiles: new plans suppose that the network needs twice as much."""
        self.graphs.clear()
        if self._need == 1:
            logger.warning(
                "out of memory with %d x %d x %d pixels at once: going on with half of them, more slowly; "
                "close what else uses this device, or give a smaller tile",
                tiles, height, width,
            )  # fmt: skip
        self._need *= 2
        self._plans.clear()


def cache_of(net: nn.Module) -> NetworkCache:
    """The cache of ``net``, which is freed together with it."""
    return _CACHES.setdefault(net, NetworkCache())


_CACHES: WeakKeyDictionary[nn.Module, NetworkCache] = WeakKeyDictionary()
"""The caches of the networks that are in use."""
