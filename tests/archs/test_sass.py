"""SASS's locality-aware network, and its blind-spot network as an ATBSN: the authors' outputs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import golden

from atbsn.archs.atbsn import ATBSN
from atbsn.archs.sass import BNN_LAYERS, LAN, atbsn_state
from atbsn.registry import ARCHS

PARAMETERS = {1: 58_011, 3: 94_939, 5: 131_867}


@pytest.mark.parametrize("field", PARAMETERS)
def test_number_of_parameters_and_recognition(field: Any) -> None:
    net = LAN(field)
    assert sum(parameter.numel() for parameter in net.parameters()) == PARAMETERS[field]
    shapes = {name: tuple(shape) for name, shape in golden.shapes(net).items()}
    found = {name: ARCHS.get(name).recognise(shapes) for name in ARCHS}
    assert {name: arguments for name, arguments in found.items() if arguments is not None} == {"LAN": {"field": field}}


@torch.no_grad()
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_outputs_of_the_authors_local_network(assets: Path, memory_format: torch.memory_format) -> None:
    weights, expected = golden.read(assets, "sass_lan")
    net = LAN()
    net.load_state_dict(weights)
    net = net.to(memory_format=memory_format)
    for x, y in (("x", "y"), ("x_rect", "y_rect")):
        torch.testing.assert_close(net(expected[x]), expected[y], rtol=0, atol=1e-3)


@pytest.mark.parametrize("field", PARAMETERS)
def test_the_field_once_the_gates_are_held(field: Any) -> None:
    torch.manual_seed(0)
    net = LAN(field).double()
    for block in net.conv[-2].body:
        block.cuca.conv_du.register_forward_hook(lambda module, inputs, output: torch.full_like(output, 0.5))
    x = torch.rand(1, 3, 15, 15, dtype=torch.float64, requires_grad=True)
    net(x)[..., 7, 7].sum().backward()
    seen = x.grad.abs().sum(dim=(0, 1)) > 0
    expected = torch.zeros(15, 15, dtype=torch.bool)
    expected[7 - field // 2 : 8 + field // 2, 7 - field // 2 : 8 + field // 2] = True
    assert torch.equal(seen, expected)


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (5, 40)])
def test_any_size(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, *size) * 255
    assert LAN()(x).shape == x.shape


@torch.no_grad()
def test_the_authors_blind_network_is_atbsn(assets: Path) -> None:
    weights, expected = golden.read(assets, "sass_bnn_width8")
    net = ATBSN(8).eval()
    net.load_state_dict(atbsn_state(weights))
    torch.testing.assert_close(net(expected["x"], k=9), expected["y"], rtol=0, atol=1e-3)
    for shift in (0, 1, 2, 3, 5, 6):
        output = net(expected["x"], k=max(0, 2 * shift - 1))
        torch.testing.assert_close(output, expected[f"y_shift{shift}"], rtol=0, atol=1e-3)


def test_gradients_of_the_authors_blind_network(assets: Path) -> None:
    weights, expected = golden.read(assets, "sass_bnn_width8")
    net, x = ATBSN(8).eval(), expected["x"]
    net.load_state_dict(atbsn_state(weights))
    loss = (net(x, k=9) - x).abs().mean()
    torch.testing.assert_close(loss.double(), expected["loss"][0], rtol=1e-5, atol=0)
    parts = {
        "unet.intro.conv.weight": expected["grad.encode_block_1.0.weight"],
        "nin_C.weight": expected["grad.output_conv.weight"],
    }
    golden.assert_gradients(net, loss, expected["grad_norm"], parts)


@torch.no_grad()
def test_the_authors_blind_network_at_full_width(shared: Path) -> None:
    net = ATBSN().eval()
    shapes = golden.shapes(net)
    names = {
        f"{foreign}.{kind}": shapes[f"{own}.{kind}"]
        for own, foreign in BNN_LAYERS.items()
        for kind in ("weight", "bias")
    }
    weights, expected = golden.read_full(shared / "golden", "sass_bnn_full", names)
    net.load_state_dict(atbsn_state(weights))
    torch.testing.assert_close(net(expected["x"], k=9), expected["y"], rtol=0, atol=1e-3)


def test_second_names_are_dropped_and_other_networks_left_alone(assets: Path) -> None:
    weights, _ = golden.read(assets, "sass_bnn_width8")
    twice = {**weights, **{f"output_conv.{kind}": weights[f"output_block.4.{kind}"] for kind in ("weight", "bias")}}
    assert atbsn_state(twice).keys() == ATBSN(8).state_dict().keys()
    unet, _ = golden.read(assets, "sass_unet_width8")
    for state in (unet, ATBSN(2).state_dict(), LAN().state_dict()):
        assert atbsn_state(state) is None
