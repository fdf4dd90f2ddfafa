"""On a GPU what the CPU gives: every registered network, at any size, in every way that only a GPU has."""

import gc
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import atbsn
from atbsn.archs import build_arch
from atbsn.archs.base import Network
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.network_cache import cache_of
from atbsn.engine.inference.plan import SHARE, UNKNOWN, ComputeOptions, DeviceFacts
from atbsn.engine.inference.samples import PictureInProgress, denoise_samples
from atbsn.registry import ARCHS

pytestmark = pytest.mark.gpu

NETWORKS = {name: ARCHS.get(name) for name in ARCHS}


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Float32 products of 32 bits: TF32 has 10 bits of fraction. What the log warns of is seen."""
    monkeypatch.setattr(logging.getLogger("atbsn"), "propagate", True)
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def network(name: str) -> Any:
    torch.manual_seed(0)
    return build_arch({"type": name, **NETWORKS[name].example()}).eval()


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    flat = np.kron(rng.integers(40, 216, (-(-height // 16), -(-width // 16), 3)), np.ones((16, 16, 1)))
    return np.clip(flat[:height, :width] + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


def without_chance(kind: type[Network]) -> dict[str, Any]:
    """Keywords that leave out what is drawn: a GPU draws other numbers than a CPU."""
    return {"refine": 0} if "refine" in kind.denoise_keywords() else {}


@pytest.mark.parametrize("size", [(1, 1), (37, 61), (200, 333)])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_gives_what_it_gives_on_the_cpu(name: str, size: tuple[int, int]) -> None:
    """As it is the first time, captured the second, and replayed the third."""
    net, how = network(name), without_chance(NETWORKS[name])
    image = photograph(*size).astype(np.float32)
    expected = atbsn.denoise(net, image, data_range=255.0, precision="fp32", **how)  # a CPU may have bf16, too
    net.cuda()
    for turn in range(3):
        found = atbsn.denoise(net, image, data_range=255.0, precision="fp32", **how)
        assert np.abs(found - expected).max() < 0.05, f"turn {turn}"


@pytest.mark.parametrize("name", [name for name, kind in NETWORKS.items() if kind.is_local()])
def test_networks_that_are_laid_over_a_picture_are_captured(name: str) -> None:
    net, image = network(name).cuda(), photograph(64, 96)
    for _ in range(2):
        atbsn.denoise(net, image)
    assert sum(graph is not None for graph in cache_of(net).graphs._met.values()) == 1


@pytest.mark.parametrize("name", [name for name, kind in NETWORKS.items() if not kind.sees_whole_tile])
def test_large_pictures_in_a_plan_of_this_card(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the tiles, batches and graphs that memory for a seventh of the picture leaves; as the same plan on a CPU."""
    monkeypatch.setattr("atbsn.engine.inference.plan.WORKING", 900 * 1300 / 7 * UNKNOWN)
    monkeypatch.setattr("atbsn.engine.inference.network_cache.SMALL", 2**40)
    net, how = network(name), without_chance(NETWORKS[name])
    noisy = torch.from_numpy(photograph(900, 1301).astype(np.float32)).permute(2, 0, 1)[None]
    asked = ComputeOptions(overlap=net.tile_overlap, precision="fp32")
    plan = Denoiser(net, how, torch.device("cuda"), asked).plan(900, 1301)
    assert plan.tile is not None and plan.capture
    expected = Denoiser(net, how, torch.device("cpu"), asked)(noisy, replace(plan, capture=False, resident=False))
    for resident in (True, False):
        denoiser = Denoiser(net.cuda(), how, torch.device("cuda"), asked)
        for turn in range(3):
            found = denoiser(noisy, replace(plan, resident=resident)).cpu()
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=0.05, msg=f"turn {turn}, resident {resident}")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("tile", [None, 128])
def test_samples_of_every_type_in_bands_and_whole(dtype: type[np.generic], tile: int | None) -> None:
    net = network("PhotoNet")
    torch.nn.init.normal_(net.tail.weight, std=0.1)
    rgb = photograph(304, 200).astype(dtype) * (257 if dtype == np.uint16 else 1)
    step = 257 if dtype == np.uint16 else 1
    data_range = 255.0 if dtype == np.float32 else None
    expected = atbsn.denoise(net, rgb, tile=tile or 4096, data_range=data_range, precision="fp32")
    net.cuda()
    for _ in range(3):
        found = atbsn.denoise(net, rgb, tile=tile or 4096, precision="fp32", data_range=data_range)
        assert found.dtype == dtype
        assert np.abs(found.astype(float) - expected.astype(float)).max() <= 1 * step


def test_weights_that_change_are_seen_by_a_captured_pass() -> None:
    net, image = network("StudentA").cuda(), photograph(64, 64).astype(np.float32)
    for _ in range(3):
        before = atbsn.denoise(net, image, data_range=255.0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)
    after = atbsn.denoise(net, image, data_range=255.0)
    fresh = network("StudentA").cuda()
    fresh.load_state_dict(net.state_dict())
    assert np.abs(after - atbsn.denoise(fresh, image, data_range=255.0)).max() < 0.05
    assert np.abs(before - after).max() > 0.5


def test_results_are_the_callers() -> None:
    """Of several pictures of a size, denoised one after the other and begun ahead."""
    net = network("StudentA").cuda()
    denoiser = Denoiser(net, {}, torch.device("cuda"), ComputeOptions(precision="fp32"))
    images = [photograph(96, 128, seed) for seed in range(5)]
    alone = [atbsn.denoise(network("StudentA").cuda(), image, precision="fp32") for image in images]
    begun = [PictureInProgress(denoiser, image, "x") for image in images]
    for image, work, expected in zip(images, begun, alone, strict=True):
        assert np.abs(work.result().astype(int) - expected).max() <= 1
        assert np.abs(denoise_samples(denoiser, image, "x").astype(int) - expected).max() <= 1


def test_the_plan_on_this_card() -> None:
    facts = DeviceFacts.of(torch.device("cuda"))
    assert 0 < facts.free_memory <= torch.cuda.get_device_properties(0).total_memory
    assert facts.capability == torch.cuda.get_device_capability()
    net = atbsn.load("real").cuda().eval()
    plan = Denoiser(net, {}, torch.device("cuda"), ComputeOptions(overlap=net.tile_overlap)).plan(3000, 4000)
    assert plan.capture and plan.resident
    if facts.free_memory > 20 * 2**30:
        assert plan.tile is None, "12 megapixels of it fit 24 GB"


def test_a_pass_takes_about_what_is_reckoned() -> None:
    for name, arguments in (("PhotoNet", {}), ("StudentC", {}), ("ATBSN", {"width": 32})):
        net = build_arch({"type": name, **arguments}).eval().cuda()
        denoiser = Denoiser(net, {}, torch.device("cuda"), ComputeOptions(overlap=net.tile_overlap, capture=False))
        noisy = torch.rand(1, 3, 736, 736, device="cuda") * 255
        denoiser(noisy)
        (reckoned,) = cache_of(net)._costs.values()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        denoiser(noisy)
        taken = (torch.cuda.max_memory_allocated() - before) / 736**2
        assert 0.3 * reckoned < taken < reckoned / SHARE, f"{name}: a plan leaves as much free as it reckons with"


def test_out_of_memory_goes_on_with_less(caplog: pytest.LogCaptureFixture) -> None:
    image, net = photograph(1500, 2000), atbsn.load("fast").cuda().eval()
    expected = atbsn.denoise(net, image)
    known = cache_of(net)
    known.graphs.clear()
    known._plans.clear()
    known._costs.update(dict.fromkeys(known._costs, 1.0))  # as if it needed hardly anything
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 250 * 2**20) / total)
    try:
        with caplog.at_level(logging.WARNING, "atbsn"):
            found = [atbsn.denoise(net, image) for _ in range(3)]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len([record for record in caplog.records if "out of memory" in record.getMessage()]) == 1
    for result in found:
        assert np.abs(result.astype(int) - expected).max() <= 3
