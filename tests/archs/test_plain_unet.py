"""The plain UNets of Neighbor2Neighbor, Blind2Unblind and SASS: the authors' outputs, sizes and names."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import golden
from torch import Tensor

from atbsn.archs import build_arch
from atbsn.archs.plain_unet import VARIANTS, UNet, layer_names
from atbsn.ops.dihedral import ORIENTATIONS, dihedral, undihedral
from atbsn.registry import ARCHS

STEMS = {"n2n": "n2n", "b2u": "b2u", "sass": "sass_unet"}
PARAMETERS = {"n2n": 1_259_475, "b2u": 1_102_371, "sass": 1_083_747}
RAW_PARAMETERS = {"n2n": 1_260_868, "b2u": 1_103_764}


def authors_names(variant: str) -> dict[str, str]:
    """The authors' layer names by ours."""
    return dict(zip(layer_names(VARIANTS[variant]), VARIANTS[variant].foreign_names, strict=True))


def authors_shapes(net: UNet, variant: str) -> dict[str, torch.Size]:
    names = authors_names(variant)
    parts = {name: name.rpartition(".") for name in net.state_dict()}
    return {f"{names[parts[own][0]]}.{parts[own][2]}": shape for own, shape in golden.shapes(net).items()}


def authors_network(variant: Any, weights: dict[str, Tensor], width: int = 8) -> UNet:
    net = UNet(variant, width).eval()
    net.load_state_dict(UNet.convert_state(weights))
    return net


def close(output: Tensor, expected: Tensor, atol: float) -> None:
    torch.testing.assert_close(output, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("variant", VARIANTS)
def test_number_of_parameters(variant: Any) -> None:
    assert sum(parameter.numel() for parameter in UNet(variant).parameters()) == PARAMETERS[variant]
    if variant in RAW_PARAMETERS:
        raw = UNet(variant, channels=4).parameters()
        assert sum(parameter.numel() for parameter in raw) == RAW_PARAMETERS[variant]


@torch.no_grad()
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_outputs_of_neighbor2neighbors_authors(assets: Path, memory_format: torch.memory_format) -> None:
    weights, expected = golden.read(assets, "n2n_width8")
    net = authors_network("n2n", weights).to(memory_format=memory_format)
    close(net(expected["x"] * 255) / 255, expected["y"], 1e-5)
    close(net.denoise(expected["x_pad"] * 255) / 255, expected["y_pad"], 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_outputs_of_blind2unblinds_authors(assets: Path, memory_format: torch.memory_format) -> None:
    weights, expected = golden.read(assets, "b2u_width8")
    net, x, x_pad = authors_network("b2u", weights), expected["x"] * 255, expected["x_pad"] * 255
    net = net.to(memory_format=memory_format)
    close(net(x) / 255, expected["f"], 1e-5)
    close(net.blind(x) / 255, expected["h"], 1e-5)
    close(net.denoise(x, beta=2) / 255, expected["y_mid_beta2"], 1e-5)
    close(net.denoise(x, beta=20.0) / 255, expected["y_mid_beta20"], 1e-5)
    close(net.denoise(x_pad) / 255, expected["f_pad"], 1e-5)
    close(net.blind(x_pad) / 255, expected["h_pad"], 1e-5)
    close(net.denoise(x_pad, beta=19.7) / 255, expected["y_mid_pad_beta19.7"], 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_outputs_of_sass_authors(assets: Path, memory_format: torch.memory_format) -> None:
    weights, expected = golden.read(assets, "sass_unet_width8")
    net = authors_network("sass", weights).to(memory_format=memory_format)
    close(net(expected["x"]), expected["y"], 1e-3)
    x = expected["x_rect"]
    close(net(x), expected["y_rect"], 1e-3)
    turned = torch.stack([undihedral(net(dihedral(x, each)), each) for each in ORIENTATIONS])
    close(turned.mean(dim=0), expected["y_ensemble8"], 1e-3)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_at_full_width(shared: Path, variant: Any) -> None:
    net = UNet(variant).eval()
    folder, stem = shared / "golden", f"{STEMS[variant]}_full"
    weights, expected = golden.read_full(folder, stem, authors_shapes(net, variant))
    net.load_state_dict(UNet.convert_state(weights))
    scale, atol = (1, 1e-3) if variant == "sass" else (255, 1e-5)
    if variant == "b2u":
        close(net.denoise(expected["x"] * scale, beta=20.0) / scale, expected["y_mid_beta20"], atol)
    else:
        close(net(expected["x"] * scale) / scale, expected["y"], atol)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_bare_state_dict_is_recognised(variant: Any) -> None:
    shapes = {name: tuple(shape) for name, shape in golden.shapes(UNet(variant, 6)).items()}
    found = {name: ARCHS.get(name).recognise(shapes) for name in ARCHS}
    arguments = {"variant": variant, "width": 6, "channels": 3}
    assert {name: each for name, each in found.items() if each is not None} == {"UNet": arguments}


def test_other_state_dicts_are_not_converted() -> None:
    for options in ({"type": "UNet", "width": 4}, {"type": "ATBSN", "width": 2}, {"type": "StudentC", "width": 2}):
        assert UNet.convert_state(build_arch(options).state_dict()) is None


def test_the_published_initialisations() -> None:
    torch.manual_seed(0)
    n2n, b2u, sass = (UNet(variant) for variant in ("n2n", "b2u", "sass"))
    fan_in = 48 * 9
    assert n2n.enc[3].weight.std().item() == pytest.approx(0.1 * (2 / fan_in) ** 0.5, rel=0.03)
    assert n2n.up[2].weight.std().item() == pytest.approx(0.1 * (2 / (4 * 96)) ** 0.5, rel=0.03)
    assert b2u.enc[3].weight.abs().max().item() == pytest.approx(fan_in**-0.5, rel=0.01)
    assert sass.enc[3].weight.std().item() == pytest.approx((2 / 1.01 / fan_in) ** 0.5, rel=0.03)
    assert all((net.enc[3].bias == 0).all() for net in (n2n, sass)) and (b2u.enc[3].bias != 0).any()


def test_blind_to_the_pixel_and_what_is_masked_with_it_and_to_nothing_else() -> None:
    torch.manual_seed(0)
    net = UNet("b2u", 8).double()
    total = torch.zeros(64, 64, dtype=torch.float64)
    for seed in range(3):
        x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 255
        x.requires_grad_()
        net.blind(x)[..., 30, 29].sum().backward()
        total += x.grad.abs().sum(dim=(0, 1))
    masked = torch.zeros(64, 64, dtype=torch.bool)
    masked[30 % 4 :: 4, 29 % 4 :: 4] = True
    assert torch.equal(total == 0, masked)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (33, 31), (45, 70)])
@torch.no_grad()
def test_any_size(variant: Any, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net, x = UNet(variant, 4).eval(), torch.rand(2, 3, *size) * 255
    for output in (net(x), net.denoise(x, beta=19.0)):
        assert output.shape == x.shape
        assert output.isfinite().all()


@torch.no_grad()
def test_the_mix_in_tiles_is_that_of_each_tile() -> None:
    torch.manual_seed(0)
    net, x = UNet("b2u", 4).eval(), torch.rand(1, 3, 64, 64) * 255
    expected = (net.blind(x) + 3 * net(x)) / 4
    torch.testing.assert_close(net.denoise(x, lambda function, y: function(y) + 1, beta=3.0), expected + 1)


def test_copies_together_and_in_parts_are_the_same() -> None:
    torch.manual_seed(0)
    net, x = UNet("b2u", 4).double(), torch.rand(2, 3, 32, 64, dtype=torch.float64) * 255
    with torch.no_grad():
        in_parts = net.blind(x)
    torch.testing.assert_close(net.blind(x).detach(), in_parts)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_bfloat16_keeps_grey_levels(variant: Any) -> None:
    torch.manual_seed(0)
    net, x = UNet(variant, 8), torch.rand(1, 3, 64, 64) * 255
    with torch.autocast("cpu", torch.bfloat16):
        low = net(x)
    assert low.dtype == torch.float32
    assert (low - net(x)).abs().mean() < 0.05 * net(x).abs().max() + 0.05
