"""C-BSN's network: the authors' outputs, what it sees, and pictures of any size."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atbsn.archs import build_arch
from atbsn.archs.cbsn import CBSN, standardise
from atbsn.engine.convert import state_dict_from_tensorflow
from atbsn.engine.inference.tiling import Tiler
from atbsn.ops.subsample import batch_to_space, space_to_batch


def golden(folder: Path, name: str) -> tuple[dict[str, np.ndarray], dict[str, Tensor]]:
    """The authors' variables and, in NCHW, what their network makes of ``x``."""
    with np.load(folder / f"{name}.weights.npz") as weights, np.load(folder / f"{name}.io.npz") as pictures:
        variables = {key.replace("__", "/"): weights[key] for key in weights.files}
        return variables, {key: torch.from_numpy(pictures[key]).permute(0, 3, 1, 2) for key in pictures.files}


def golden_network(folder: Path, name: str) -> tuple[CBSN, dict[str, Tensor]]:
    variables, pictures = golden(folder, name)
    state = state_dict_from_tensorflow(variables)
    net: Any = build_arch({"type": "CBSN", "width": len(state["conv0.bias"])})
    net.load_state_dict(state)
    return net.eval(), pictures


@pytest.fixture
def small() -> CBSN:
    torch.manual_seed(0)
    return CBSN(width=8).double().eval()


def test_the_published_size() -> None:
    net = CBSN()
    assert sum(p.numel() for p in net.parameters()) == 3_656_131
    assert not any(name.endswith("mask") for name in net.state_dict())


@torch.no_grad()
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("blind", [True, False])
def test_outputs_of_the_authors_network(assets: Path, blind: bool, memory_format: torch.memory_format) -> None:
    net, pictures = golden_network(assets, "cbsn_width8")
    expected = pictures["y_blind" if blind else "y_full"]
    output = net.to(memory_format=memory_format)(pictures["x"], blind=blind)
    assert (output - expected).abs().max() < 1e-5 * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("blind", [True, False])
def test_outputs_of_the_authors_network_at_full_width(shared: Path, blind: bool) -> None:
    net, pictures = golden_network(shared / "golden", "cbsn")
    expected = pictures["y_blind" if blind else "y_full"]
    assert (net(pictures["x"], blind=blind) - expected).abs().max() < 1e-5 * expected.abs().max()


def seen_from_centre(net: CBSN, blind: bool, stride: int = 1, size: int = 80) -> Tensor:
    """Which input pixels the middle output pixel depends on, (size, size), through S2B and B2S."""
    torch.manual_seed(1)
    x = torch.randn(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    output = batch_to_space(net(space_to_batch(x, stride), blind=blind), stride)
    output[..., size // 2, size // 2].sum().backward()
    return x.grad.abs().sum(dim=(0, 1)) > 0


def test_blind_sees_everything_around_but_not_itself(small: CBSN) -> None:
    seen = seen_from_centre(small, blind=True)
    assert not seen[40, 40]
    assert seen[39:42, 39:42].sum() == 8
    rows, columns = seen.nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (11, 69, 11, 69), "radius 29"


def test_full_sees_itself_too(small: CBSN) -> None:
    assert seen_from_centre(small, blind=False)[39:42, 39:42].all()


@pytest.mark.parametrize("blind", [True, False])
def test_after_sub_sampling_nothing_leaks_from_the_neighbours(small: CBSN, blind: bool) -> None:
    seen = seen_from_centre(small, blind, stride=5)
    assert seen[40, 40] == (not blind)
    own_phase = torch.zeros_like(seen)
    own_phase[0::5, 0::5] = True
    assert not (seen & ~own_phase).any(), "another sub-image leaks in"
    assert seen[35, 40] and seen[40, 45], "the neighbours within the sub-image are seen"


def test_forward_leaves_weights_and_gradients_whole(small: CBSN) -> None:
    conv = small.branch1.conv1
    before = conv.weight.detach().clone()
    small(torch.randn(1, 3, 12, 12, dtype=torch.float64), blind=True).sum().backward()
    assert torch.equal(conv.weight, before)
    assert (conv.weight.grad[..., 1, 1] == 0).all()
    assert (conv.weight.grad != 0).any()


def test_the_head_commutes_with_sub_sampling(small: CBSN) -> None:
    x = torch.randn(2, 3, 20, 20, dtype=torch.float64)
    torch.testing.assert_close(space_to_batch(small.head(x), 5), small.head(space_to_batch(x, 5)))


def test_standardise_uses_each_channels_statistics() -> None:
    y = torch.rand(2, 3, 30, 40) * torch.tensor([255.0, 25.0, 3.0]).view(3, 1, 1)
    x, mean, scale = standardise(y)
    torch.testing.assert_close(x.mean(dim=(2, 3)), torch.zeros(2, 3), atol=1e-5, rtol=0)
    np_std = (y.numpy() / 255).std(axis=(2, 3))
    floored = np.maximum(np_std, 1 / np.sqrt(30 * 40))
    np.testing.assert_allclose(scale.flatten(1) / 255, floored, rtol=1e-5)
    assert (np_std < 1 / np.sqrt(30 * 40)).any(), "the floor is met"
    torch.testing.assert_close(x * scale + mean, y)


def test_standardise_of_a_constant_picture() -> None:
    y = torch.full((1, 3, 16, 16), 255.0, requires_grad=True)
    x, _, scale = standardise(y)
    assert x.abs().max() < 1e-3
    torch.testing.assert_close(scale, torch.full((1, 3, 1, 1), 255 / 16))
    x.square().sum().backward()
    assert y.grad.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 40), (33, 64), (101, 79)])
def test_denoise_takes_any_size(small: CBSN, size: tuple[int, int]) -> None:
    noisy = torch.rand(2, 3, *size, dtype=torch.float64) * 255
    clean = small.denoise(noisy)
    assert clean.shape == noisy.shape
    assert clean.isfinite().all()


@torch.no_grad()
def test_denoise_is_one_full_pass_over_the_reflected_picture(small: CBSN) -> None:
    noisy = torch.rand(1, 3, 40, 50, dtype=torch.float64) * 255
    y = noisy / 255
    mean, std = y.mean(dim=(2, 3), keepdim=True), y.std(dim=(2, 3), keepdim=True, correction=0)
    padded = torch.nn.functional.pad((y - mean) / std, (32, 32, 32, 32), mode="reflect")
    expected = (small(padded, blind=False)[..., 32:-32, 32:-32] * std + mean) * 255
    torch.testing.assert_close(small.denoise(noisy), expected)


@torch.no_grad()
def test_denoise_in_tiles_uses_the_whole_pictures_statistics(small: CBSN) -> None:
    ramp = torch.linspace(0, 255, 300, dtype=torch.float64).expand(1, 3, 60, 300)
    noisy = ramp + torch.randn(1, 3, 60, 300, dtype=torch.float64)
    tiled = small.denoise(noisy, tiled=Tiler(tile=256, overlap=small.tile_overlap))
    torch.testing.assert_close(tiled, small.denoise(noisy))


def test_bf16_stays_near_float32() -> None:
    torch.manual_seed(0)
    net, x = CBSN(width=8), torch.randn(1, 3, 20, 20)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = net(x, blind=True)
    assert low.dtype == torch.float32, "the last layer keeps what bf16 would round away"
    with torch.no_grad():
        exact = net(x, blind=True)
    assert (low - exact).abs().max() < 0.05 * exact.abs().max()
