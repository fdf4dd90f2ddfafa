"""What is kept of a network between pictures: its need, its plans, its graphs."""

import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from atbsn.archs import build_arch
from atbsn.engine.inference import network_cache as module
from atbsn.engine.inference.capture import Graphs
from atbsn.engine.inference.memory import Watch, bytes_per_pixel
from atbsn.engine.inference.network_cache import NetworkCache, cache_of
from atbsn.engine.inference.plan import ComputeOptions, DeviceFacts, DevicePlan

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card of 8 GB, as far as plans go."""
    facts = DeviceFacts("cuda", 2**33, (8, 0))
    monkeypatch.setattr(module.DeviceFacts, "of", classmethod(lambda cls, device: facts))


def plan(
    known: Any, size: tuple[int, int] = (2000, 2000), measured: list[str] | None = None, what: str = "denoise"
) -> DevicePlan:
    def measure() -> float:
        if measured is not None:
            measured.append(what)
        return 1000.0

    return known.plan(CUDA, ComputeOptions(), size, what, measure)


def test_a_network_is_measured_once_for_what_it_does(card: None) -> None:
    known, measured = NetworkCache(), []
    first = plan(known, measured=measured)
    assert plan(known, measured=measured) is first
    plan(known, (3000, 4000), measured)
    assert measured == ["denoise"]
    plan(known, (3000, 4000), measured, "another hole")
    assert measured == ["denoise", "another hole"]


@pytest.mark.parametrize(
    ("size", "is_small"),
    [((512, 512), True), ((64, 4096), True), ((4096, 64), True), ((512, 513), False), ((64, 4097), False),
     ((4097, 64), False)],
)  # fmt: skip
def test_small_pictures_are_not_worth_measuring(size: tuple[int, int], is_small: bool, card: None) -> None:
    measured: list[Any] = []
    assert plan(NetworkCache(), size, measured).tile is None
    assert measured == ([] if is_small else ["denoise"])


def test_a_shortage_is_said_once_and_halves_what_is_done_at_once(card: None, caplog: pytest.LogCaptureFixture) -> None:
    known = NetworkCache()
    assert plan(known).tile is None
    with caplog.at_level(logging.WARNING, "atbsn"):
        known.on_shortage(1, 2000, 2000)
        smaller = plan(known)
        known.on_shortage(1, *smaller.tile)
        smallest = plan(known)
    areas = [height * width for height, width in (smaller.tile, smallest.tile)]
    assert areas[0] <= 2**32 / 2000 and areas[1] <= 2**32 / 4000
    (record,) = caplog.records
    assert "out of memory with 1 x 2000 x 2000 pixels at once: going on with half" in record.getMessage()


def test_it_goes_with_the_network() -> None:
    net = nn.Conv2d(1, 1, 1)
    known = cache_of(net)
    assert cache_of(net) is known
    before = len(module._CACHES)
    del net
    gc.collect()
    assert len(module._CACHES) < before


def test_what_lives_at_once_is_summed_up() -> None:
    """x and x + 1, then that and its double, then the sum alone."""
    with Watch() as watch:
        x = torch.zeros(1000)  # 4000 bytes
        y = x + 1
        del x
        y = y * 2
        y.view(10, 100)  # no memory of its own
        y.add_(1)
        y.sum()
    assert watch.peak == 8000
    assert watch.operators == 6


@pytest.mark.parametrize("name", ["StudentA", "StudentC", "PhotoNet"])
def test_a_wider_network_needs_more(name: str) -> None:
    small: dict[str, dict[str, Any]] = {"PhotoNet": {"widths": [8, 8]}, "StudentC": {"width": 8}}
    net = build_arch({"type": name, **small.get(name, {})}).eval()
    found = bytes_per_pixel(net.denoise, CPU)
    assert found > 24, "at least picture and result"
    if name == "StudentC":
        wider = build_arch({"type": name, "width": 16}).eval()
        assert 1.5 * found < bytes_per_pixel(wider.denoise, CPU) < 2.1 * found


class FakeGraph:
    """Stands for a captured pass."""

    made = 0

    def __init__(self, function: Callable[..., Any], x: torch.Tensor, pool: Any) -> None:
        type(self).made += 1
        self.function = function

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x) + 100


@pytest.fixture
def graphs() -> Graphs:
    FakeGraph.made = 0
    return Graphs(FakeGraph)


def test_a_pass_is_captured_the_second_time_and_replayed_from_then_on(graphs: Graphs) -> None:
    x = torch.zeros(1, 3, 8, 8)
    results = [float(graphs("key", lambda x: x + 1, x).mean()) for _ in range(4)]
    assert results == [1, 101, 101, 101] and FakeGraph.made == 1


def test_another_size_layout_or_function_is_another_pass(graphs: Graphs) -> None:
    x = torch.zeros(1, 3, 8, 8)
    for given in (x, torch.zeros(1, 3, 8, 9), x.contiguous(memory_format=torch.channels_last), x.double()):
        assert float(graphs("key", lambda x: x, given).mean()) == 0
    assert float(graphs("another", lambda x: x, x).mean()) == 0
    assert FakeGraph.made == 0


def test_few_graphs_are_kept_the_newest(graphs: Graphs) -> None:
    def twice(side: int) -> list[float]:
        return [float(graphs("key", lambda x: x, torch.zeros(1, 1, side, side)).mean()) for _ in range(2)]

    for side in (4, 5, 6, 7, 8):
        assert twice(side) == [0, 100]
    assert twice(4) == [0, 100] and FakeGraph.made == 6, "forgotten, and captured again"
    assert twice(8) == [100, 100]


def test_what_cannot_be_captured_is_done_as_it_is() -> None:
    tries = []

    def refuse(function: Callable[..., Any], x: torch.Tensor, pool: Any) -> None:
        tries.append(1)
        raise RuntimeError("operation not permitted when stream is capturing")

    graphs, x = Graphs(refuse), torch.zeros(1)
    assert [float(graphs("key", lambda x: x + 1, x)) for _ in range(4)] == [1, 1, 1, 1]
    assert len(tries) == 1


def test_cleared_graphs_are_captured_anew(graphs: Graphs) -> None:
    x = torch.zeros(1)
    for _ in range(2):
        graphs("key", lambda x: x, x)
    graphs.clear()
    assert [float(graphs("key", lambda x: x, x)) for _ in range(2)] == [0, 100]
