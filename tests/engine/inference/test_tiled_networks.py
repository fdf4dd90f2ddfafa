"""Every network gives in tiles what it gives in one pass, at odd sizes, in every plan, wherever it sees far enough."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from atbsn.archs import build_arch
from atbsn.archs.base import Network
from atbsn.engine.inference.capture import Graphs
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.layout import FADE, context
from atbsn.engine.inference.network_cache import cache_of
from atbsn.engine.inference.plan import WIDE, ComputeOptions, DevicePlan
from atbsn.engine.inference.samples import denoise_samples
from atbsn.engine.inference.tiling import Tiler
from atbsn.registry import ARCHS

CPU = torch.device("cpu")
STRIP = 21
"""Pixels across: pictures are long and narrow, so that tiles may share much and little is computed."""
NETWORKS = [name for name, kind in ((name, ARCHS.get(name)) for name in ARCHS) if not kind.sees_whole_tile]
"""All but those of which every pixel depends on all of its tile."""


def network(name: str) -> Network:
    torch.manual_seed(0)
    net = build_arch({"type": name, **ARCHS.get(name).example()}).eval()
    for layer in net.modules():  # also those that start at zero
        if isinstance(layer, nn.Conv2d) and not layer.weight.any():
            nn.init.normal_(layer.weight, std=0.1)
    return net


def settings(net: Network) -> dict[str, Any]:
    """Without chance; and medians of blocks, which are other ones in tiles, have a test of their own."""
    keywords = net.denoise_keywords()
    return {name: value for name, value in {"refine": 0, "keep_colours": False}.items() if name in keywords}


def noisy(net: Network, length: int, across: int = STRIP) -> torch.Tensor:
    return torch.rand(1, net.channels, across, length, generator=torch.manual_seed(1)) * 255


def radius(net: Network) -> int:
    """How far what is laid over a picture looks along it: where its output changes with one column of its input."""
    found = []

    def laid(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        middle = x.shape[-1] // 2 // 32 * 32 + 5
        other = x.clone()
        other[..., middle] += 100
        before = function(x)
        changed = (function(other) != before).flatten(0, -2).any(dim=0).nonzero()
        found.append(int((changed - middle).abs().max()))
        return before

    with torch.no_grad():
        net.denoise(noisy(net, 800), laid, **settings(net))
    return max(found)


def needed_overlap(net: Network) -> int:
    """That leaves as much context as the network looks around."""
    reach = radius(net)
    overlap = min(4 * reach, 2 * reach + FADE)
    assert context(overlap) >= reach
    return overlap


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0.02)


class StaticShapes:
    """A CUDA graph's stand-in: what it is given is copied to where its first input lay, in that shape alone."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, pool: Any) -> None:
        self.function, self.input = function, x.clone()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.input.copy_(x)).clone()


def plans(side: int, overlap: int, multiple: int) -> list[tuple[int, DevicePlan]]:
    """Whole; tiles that end at the edge; tiles of one size, in batches of three, thrice as a GPU does it."""
    how: dict[str, Any] = {"precision": "fp32", "resident": False, "overlap": overlap, "multiple": multiple}
    return [
        (1, DevicePlan(None, 1, capture=False, **how)),
        (3, DevicePlan(None, 1, capture=True, **how)),
        (1, DevicePlan((side, side), 1, capture=False, sizes="any", **how)),
        (3, DevicePlan((side, side), 3, capture=True, **how)),
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_in_every_plan(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(name)
    how, multiple = settings(net), net.tile_multiple
    overlap = needed_overlap(net)
    side = 2 * overlap + multiple
    denoiser = Denoiser(net, how, CPU, ComputeOptions(tile="none", overlap=overlap, precision="fp32"))
    monkeypatch.setattr(cache_of(net), "graphs", Graphs(capture=StaticShapes))
    for x in (noisy(net, 2 * side - overlap + 45), noisy(net, side + 1).mT):
        with torch.no_grad():
            expected = net.denoise(x, **how)
        for turns, plan in plans(side, overlap, multiple):
            for _ in range(turns):
                close(denoiser(x, plan), expected)
        in_bands = replace(denoiser, asked=replace(denoiser.asked, tile=side))
        samples = denoise_samples(in_bands, x[0].permute(1, 2, 0).numpy(), "x")
        close(torch.from_numpy(samples), expected[0].permute(1, 2, 0).clamp(0, 255))


def test_tiles_that_begin_between_poolings_are_another_picture() -> None:
    net = network("StudentC")
    x, overlap = noisy(net, 1201), needed_overlap(net)
    expected = net.denoise(x)
    close(Tiler(800, overlap, multiple=32)(net, x), expected)
    assert (Tiler(800, overlap)(net, x) - expected).abs().max() > 1


def test_what_a_small_overlap_costs_a_network_that_looks_far() -> None:
    """Student C looks 152 pixels around; tiles share 32 on a CPU, and more on a GPU. Untrained weights show it most."""
    torch.manual_seed(0)
    net, side, errors = build_arch({"type": "StudentC", "width": 16}).eval(), 768, {}
    for overlap in (net.tile_overlap, WIDE, needed_overlap(net) + 32):
        overlap = overlap // 32 * 32
        x = noisy(net, 2 * side - overlap)
        with torch.no_grad():
            errors[overlap] = float((Tiler(side, overlap, multiple=32)(net, x) - net(x)).abs().sum())
    few, wide, enough = errors.values()
    assert few > 25 * wide > 25 * enough
    assert enough < 0.001 * few


def test_colours_that_are_kept_in_tiles() -> None:
    """Medians are those of other blocks of 64 pixels in tiles: they differ by a fraction of a grey value."""
    net = network("PhotoNet")
    x = 127 + 10 * torch.randn(1, 3, 200, 1000, generator=torch.manual_seed(0))
    with torch.no_grad():
        expected = net.denoise(x)
        found = Tiler((200, 544), net.tile_overlap, multiple=net.tile_multiple)(net.denoise, x)
    assert (found - expected).abs().mean() < 0.2
