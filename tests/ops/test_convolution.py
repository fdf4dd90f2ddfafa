"""Convolutions as a GPU does them are what convolutions are, with the same gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from atbsn.ops import convolution, ways
from atbsn.ops.convolution import Conv2d

SHAPES = [
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": (0, 1)},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 1, "bias": False},
]


@pytest.fixture(params=["as on a CPU", "as on a GPU"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "as on a GPU":
        monkeypatch.setattr(convolution, "by_products", convolution._lies_in_rows)
    return request.param


def pair(**shape: Any) -> tuple[Conv2d, nn.Conv2d]:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 8, **shape)
    ours = Conv2d(6, 8, **shape)
    ours.load_state_dict(plain.state_dict())
    return ours.to(memory_format=torch.channels_last), plain


def outcome(
    layer: nn.Module, x: torch.Tensor, slope: float | None = None, function: Callable[..., torch.Tensor] | None = None
) -> list[torch.Tensor]:
    """Output, and gradients of a loss that weighs every pixel otherwise."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = (function or layer)(x)
    if slope is not None:
        y = F.leaky_relu(y, slope, inplace=True)
    weights = torch.linspace(-1, 1, y.numel(), device=y.device).view(y.shape)
    (y.float() * weights).sum().backward()
    return [y, x.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("slope", [None, 0.1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape: dict[str, Any], slope: float | None, way: str) -> None:
    """Also where what follows overwrites the output."""
    ours, plain = pair(**shape)
    x = torch.randn(2, 6, 9, 12).to(memory_format=torch.channels_last)
    for found, expected in zip(outcome(ours, x, slope), outcome(plain, x, slope), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_relu(shape: dict[str, Any], way: str) -> None:
    ours, plain = pair(**shape)
    x = torch.randn(2, 6, 9, 12).to(memory_format=torch.channels_last)
    results = outcome(ours, x, function=ours.relu), outcome(plain, x, function=lambda x: plain(x).relu())
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_more_channels_of_zeros(kernel_size: int, way: str) -> None:
    ours, plain = pair(kernel_size=kernel_size)
    x = torch.randn(2, 6, 9, 12).to(memory_format=torch.channels_last)
    more = F.pad(x, (0, 0, 0, 0, 0, 2)).contiguous(memory_format=torch.channels_last)
    found, expected = outcome(ours, more), outcome(plain, x)
    found[1] = found[1][:, :6]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_under_autocast(shape: dict[str, Any], way: str) -> None:
    """Types are those of a convolution, the backward pass within autocast, as in a training, or not."""
    ours, plain = pair(**shape)
    x = torch.randn(2, 6, 9, 12).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        results = [outcome(ours, x), outcome(plain, x)]
    for found, expected in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=0.02, atol=0.05)


def test_a_layer_in_full_precision_keeps_its_gradients_under_autocast(way: str) -> None:
    ours, plain = pair(kernel_size=1)
    x = torch.randn(2, 6, 9, 12).to(memory_format=torch.channels_last)

    class Full(nn.Sequential):
        """Its layers in full precision."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", enabled=False):
                return super().forward(x)

    with torch.autocast("cpu", torch.bfloat16):
        results = [outcome(Full(ours), x), outcome(Full(plain), x)]
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_what_is_not_wanted_is_not_computed(way: str) -> None:
    ours, _ = pair(kernel_size=1)
    x = torch.randn(1, 6, 4, 4).to(memory_format=torch.channels_last)
    assert not ours.requires_grad_(False)(x).requires_grad
    ours.weight.requires_grad_()
    ours(x).sum().backward()
    assert ours.weight.grad is not None and ours.bias.grad is None
    with torch.no_grad():
        assert not ours(x).requires_grad


def test_a_gpu_takes_this_way_channels_last_and_not_compiled() -> None:
    x = torch.empty(1, 6, 4, 4, device="meta")
    assert not convolution.by_products(x)
    assert convolution.by_products(x.to(memory_format=torch.channels_last))
    assert not convolution.by_products(torch.empty(1, 6, 4, 4).to(memory_format=torch.channels_last))


@pytest.mark.parametrize(("shape", "is_product"), [
    ({"kernel_size": 1}, True), ({"kernel_size": 1, "dilation": 3}, True),
    ({"kernel_size": (1, 2)}, False), ({"kernel_size": (2, 1)}, False),
    ({"kernel_size": 1, "stride": (1, 2)}, False), ({"kernel_size": 1, "stride": (2, 1)}, False),
    ({"kernel_size": 1, "padding": (0, 1)}, False), ({"kernel_size": 1, "padding": (1, 0)}, False),
    ({"kernel_size": 1, "groups": 2}, False), ({"kernel_size": 1, "bias": False}, False),
])  # fmt: skip
def test_only_1x1_convolutions_with_a_bias_are_products_of_all_pixels(
    shape: dict[str, Any], is_product: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "like_a_gpu", lambda device: True)
    called = []
    original = convolution.pointwise

    def noted(*given: Any, **how: Any) -> torch.Tensor:
        called.append(1)
        return original(*given, **how)

    monkeypatch.setattr(convolution, "pointwise", noted)
    ours, plain = pair(**shape)
    x = torch.randn(2, 6, 4, 5).to(memory_format=torch.channels_last)
    torch.testing.assert_close(ours(x), plain(x))
    torch.testing.assert_close(ours.relu(x), plain(x).relu())
    torch.testing.assert_close(ours(x.contiguous()), plain(x))
    assert len(called) == 2 * is_product


@pytest.mark.parametrize("relu", [False, True])
def test_a_product_of_all_pixels_has_its_gradients(relu: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(4, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)

    def product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return convolution.pointwise(x, weight, bias, relu)

    result, expected = product(x, weight, bias), F.conv2d(x, weight, bias)
    torch.testing.assert_close(result, expected.relu() if relu else expected)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.autograd.gradcheck(product, (x, weight, bias))


def test_gradients_have_the_types_of_what_they_are_of() -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.bfloat16).to(memory_format=torch.channels_last).requires_grad_()
    weight, bias = torch.randn(4, 3, 1, 1).double().requires_grad_(), torch.randn(4).half().requires_grad_()
    result = convolution.pointwise(x, weight, bias)
    result.sum().backward()
    assert [each.dtype for each in (result, x.grad, weight.grad, bias.grad)] == [
        torch.bfloat16, torch.bfloat16, torch.float64, torch.half,
    ]  # fmt: skip
    assert bias.grad.tolist() == [40] * 4


def test_the_gradient_of_a_bias_is_a_product_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "like_a_gpu", lambda device: True)
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    weight, bias = torch.randn(4, 3, 1, 1, requires_grad=True), torch.randn(4, requires_grad=True)

    def is_product(x: torch.Tensor, bias: torch.Tensor) -> bool:
        return "BiasGradient" in str(convolution.convolve(x, weight, bias).grad_fn)

    assert is_product(x, bias)
    assert not is_product(x.contiguous(), bias)
    assert not is_product(x, bias.detach())
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not is_product(x, bias)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: False)
    with torch.no_grad():
        assert not is_product(x, bias)


def test_ones_are_kept_for_graphs_and_for_later_gradients() -> None:
    """At one address, and no tensors of inference even if they were first needed there."""
    with torch.inference_mode():
        ones = convolution._ones(37, torch.float32, torch.device("cpu"))
    assert not ones.is_inference() and torch.equal(ones, torch.ones(1, 37))
    assert convolution._ones(37, torch.float32, torch.device("cpu")) is ones


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_on_a_gpu(shape: dict[str, Any], precision: torch.dtype | None) -> None:
    """As on a CPU, with ReLU and without, in 32 bits and under autocast."""
    ours, plain = pair(**shape)
    x = torch.randn(2, 6, 9, 12).to(memory_format=torch.channels_last)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for relu in (False, True):
            ours.zero_grad()
            plain.zero_grad()
            expected = outcome(plain, x, function=(lambda x: plain(x).relu()) if relu else None)
            ours.cuda()
            with torch.autocast("cuda", precision or torch.bfloat16, enabled=precision is not None):
                found = outcome(ours, x.cuda(), function=ours.relu if relu else None)
            tolerance = 1e-3 if precision is None else 0.1
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one.cpu().float(), other, rtol=tolerance, atol=tolerance)
