"""What networks do only on a GPU is what they do on a CPU: tried here on a CPU, in double precision, gradients too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.methods import built
from helpers.recording import Operators
from torch import nn

from atbsn.archs import build_arch, cbsn, dbsn
from atbsn.archs.base import BlindSpotNetwork
from atbsn.ops import ways
from atbsn.ops.dilation import in_phases, through_dilated
from atbsn.registry import ARCHS, MODELS


def results(net: nn.Module, function: Callable[..., Any]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The output, and the gradient of its mean square for every weight."""
    net.zero_grad()
    output = function()
    output.square().mean().backward()
    return output.detach(), [each.grad.clone() for each in net.parameters() if each.grad is not None]


@torch.no_grad()
def off_the_kink(net: nn.Module) -> nn.Module:
    """``net`` with biases that are not 0: where a hole sees nothing, ReLUs would be given exactly 0, at which they have
    no derivative, and each way may take another."""
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            parameter.uniform_(-0.1, 0.1)
    return net


def assert_same(one: tuple[torch.Tensor, list[torch.Tensor]], other: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
    torch.testing.assert_close(one[0], other[0])
    assert len(one[1]) == len(other[1]) > 0
    for gradient, again in zip(one[1], other[1], strict=True):
        torch.testing.assert_close(gradient, again)


def picture(side: int, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 255


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls a function as it is, and with the CPU in a GPU's place; the operators of the second call."""

    def both(function: Callable[..., Any]) -> tuple[Any, Any, set[str]]:
        expected = function()
        with monkeypatch.context() as patched, Operators() as operators:
            patched.setattr(ways, "like_a_gpu", lambda device: True)
            found = function()
        return found, expected, {name.split(".")[1] for name in operators.names()}

    return both


@pytest.mark.parametrize("size", [(1, 1), (37, 61), (64, 96)])
@pytest.mark.parametrize("name", list(ARCHS))
@torch.no_grad()
def test_every_network(name: str, size: tuple[int, int], as_on_a_gpu: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    net = build_arch({"type": name, **ARCHS.get(name).example()}).eval().double().to(memory_format=torch.channels_last)
    x = torch.rand(1, net.channels, *size, dtype=torch.float64) * 255
    how: dict[str, Any] = {"refine": 0} if "refine" in net.denoise_keywords() else {}
    found, expected, _ = as_on_a_gpu(lambda: net.denoise(x.to(memory_format=torch.channels_last), **how))
    torch.testing.assert_close(found, expected)
    if isinstance(net, BlindSpotNetwork):
        family = list(net.family)
        found, expected, _ = as_on_a_gpu(lambda: net.denoise_family(x, family))
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", list(MODELS))
def test_every_method(name: str, tmp_path: Path, as_on_a_gpu: Callable[..., Any]) -> None:
    """Its losses and gradients."""
    model, side = built(name, tmp_path, side=32)
    dtype = torch.float32 if name == "RenoiseModel" else torch.float64  # whose camera computes in 32 bits
    model = model.train().to(dtype).to(memory_format=torch.channels_last)
    off_the_kink(model.net)
    noisy = picture(side).to(dtype).to(memory_format=torch.channels_last)
    batch = {"noisy": noisy, "index": torch.arange(2)}

    def run() -> tuple[torch.Tensor, list[torch.Tensor]]:
        torch.manual_seed(5)
        return results(model.net, lambda: model(batch, torch.tensor(0.5))["loss"])

    found, expected, _ = as_on_a_gpu(run)
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("name", "how", "operators"),
    [
        ("ATBSN", {"k": 9}, {"addmm", "mm", "constant_pad_nd"}),
        ("CBSN", {"blind": True}, {"_addmm_activation", "mm", "threshold_backward"}),
        ("StudentC", {}, {"mm", "constant_pad_nd", "upsample_nearest2d_backward"}),
        ("PhotoNet", {}, {"mm", "constant_pad_nd"}),
    ],
)
def test_it_is_another_way(
    name: str, how: dict[str, Any], operators: set[str], as_on_a_gpu: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    net = build_arch({"type": name, **ARCHS.get(name).example()}).double().to(memory_format=torch.channels_last)
    off_the_kink(net)
    x = picture(36 if name == "CBSN" else 32).to(memory_format=torch.channels_last)
    found, expected, called = as_on_a_gpu(lambda: results(net, lambda: net(x, **how)))
    assert_same(found, expected)
    assert operators <= called


def test_a_picture_of_three_channels_is_computed_with_more() -> None:
    """Without gradients, where the last layer is one of 32 bits."""
    torch.manual_seed(0)
    net, x = build_arch({"type": "StudentC", "width": 3}), torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        expected = net(x)
        with pytest.MonkeyPatch.context() as patched, Operators() as operators:
            patched.setattr(ways, "like_a_gpu", lambda device: True)
            found = net(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    shapes = [
        args[1].shape[:2] for function, args, *_ in operators.calls if function is torch.ops.aten.convolution.default
    ]
    assert shapes[0] == (3, 8) and shapes[-2:] == [(6, 14), (8, 6)], "weights: outputs, inputs"


@pytest.mark.parametrize("ks", [(0, 1, 3, 5, 7, 9, 11), (1, 5, 9), (0, 1, 5, 11), (9, 3), (3,)])
def test_heads_of_all_holes_at_once(ks: tuple[int, ...], as_on_a_gpu: Callable[..., Any]) -> None:
    """In even steps and not, in any order."""
    torch.manual_seed(0)
    net, x = off_the_kink(build_arch({"type": "ATBSN", "width": 2}).double()), picture(32)
    with torch.no_grad():
        found, expected, _ = as_on_a_gpu(lambda: net.forward_teachers(x, ks))
    torch.testing.assert_close(found, expected)
    found, expected, _ = as_on_a_gpu(lambda: results(net, lambda: net.forward_teachers(x, ks)))
    assert_same(found, expected)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dilation", [2, 3])
@pytest.mark.parametrize("module", [cbsn.CBSNModule, lambda width, d: dbsn.DBSNModule(width, d, nn.ReLU)])
def test_dilated_chains_in_phases(module: Any, dilation: int, memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    chain = nn.Sequential(*(module(4, dilation) for _ in range(3))).double().to(memory_format=memory_format)
    x = torch.randn(2, 4, 12, 18, dtype=torch.float64).contiguous(memory_format=memory_format)
    expected = results(chain, lambda: through_dilated(chain, x, dilation))
    found = results(chain, lambda: in_phases(chain, x, dilation))
    assert_same(found, expected)
    assert found[0].is_contiguous(memory_format=memory_format)
