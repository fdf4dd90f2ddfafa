"""What is known of a network from one picture to the next, whoever asks: how it is laid out, and its graphs."""

from collections.abc import Callable, Hashable
from weakref import WeakKeyDictionary

import torch
from torch import nn

from atbsn.engine.inference.capture import Graphs
from atbsn.engine.inference.plan import SMALL, UNKNOWN, ComputeOptions, DeviceFacts, DevicePlan
from atbsn.utils.log import logger


class NetworkCache:
    """What was measured of one network.

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
        """The plan for pictures of this size; the same every time, as long as memory suffices.

        Args:
            what: stands for what is computed.
            measure: gives the bytes a pixel that it takes; called at most once for each ``what``, and only on a GPU.
            sees_whole_tile: as in ``DevicePlan.make``, like the others.
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
        """Memory did not suffice for so many tiles at once: from now on the network is taken to need twice as much."""
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
    """What is known of ``net``; it goes with it."""
    return _CACHES.setdefault(net, NetworkCache())


_CACHES: WeakKeyDictionary[nn.Module, NetworkCache] = WeakKeyDictionary()
