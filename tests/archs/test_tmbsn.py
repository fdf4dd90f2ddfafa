from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import golden
from helpers.networks import gradient_norm, influence, picture
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from atbsn.archs import build_arch
from atbsn.archs.tmbsn import TMBSN
from atbsn.utils.errors import UserError

KS = range(7)


def build(width: int = 4, num_blocks: int = 1) -> TMBSN:
    torch.manual_seed(0)
    return TMBSN(width, num_blocks).eval().double()


# --- the published network ---------------------------------------------------------------------------------


def test_meets_the_authors_outputs_and_gradients(assets: Path) -> None:
    net = TMBSN(width=8, num_blocks=2).double()
    net.load_state_dict(load_file(assets / "tmbsn_width8.weights.safetensors"))
    expected = golden.read_double(assets, "tmbsn_width8")
    with torch.no_grad():
        torch.testing.assert_close(net.unet(expected["x"]), expected["features_rot0"], rtol=0, atol=1e-6)
        family = net.forward_teachers(255 * expected["x"], KS)
    for k in KS:
        torch.testing.assert_close(net(255 * expected["x"], k) / 255, expected[f"y_s{k}"], rtol=0, atol=1e-6)
        torch.testing.assert_close(family[k] / 255, expected[f"y_s{k}"], rtol=0, atol=1e-6)
    check_loss(net, expected)
    for name in ("nin_C.weight", "unet.conv1.weight"):
        gradient = net.get_parameter(name).grad
        torch.testing.assert_close(gradient, expected[f"grad.{name}"], rtol=1e-5, atol=1e-8)


def test_meets_the_authors_outputs_at_full_width(shared: Path) -> None:
    net = TMBSN()
    golden.fill(net, shared / "golden", "tmbsn_full")
    net = net.double()
    expected = golden.read_double(shared / "golden", "tmbsn_full")
    with torch.no_grad():
        family = net.forward_teachers(255 * expected["x"], (0, 2, 5)) / 255
    for output, k in zip(family, (0, 2, 5), strict=True):
        torch.testing.assert_close(output, expected[f"y_s{k}"], rtol=0, atol=1e-5)


def check_loss(net: TMBSN, expected: dict[str, Tensor]) -> None:
    loss = (net(255 * expected["x"], 5) / 255 - expected["x"]).abs().mean()
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"].item(), rel=1e-6)
    assert gradient_norm(net) == pytest.approx(expected["grad_norm"].item(), rel=1e-5)


def test_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in TMBSN().parameters()) == 1_350_339


def test_an_authors_file_is_recognised_without_its_masks() -> None:
    net = TMBSN(width=4, num_blocks=2)
    foreign = dict(net.state_dict())
    for name, module in net.named_modules():
        if hasattr(module, "mask"):
            foreign[f"{name}.mask"] = module.mask.expand_as(module.weight)
    state = TMBSN.convert_state(foreign)
    assert state.keys() == net.state_dict().keys()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert TMBSN.recognise(shapes) == {"width": 4, "num_blocks": 2}
    assert TMBSN.convert_state({"head.0.weight": torch.zeros(1)}) is None


def plain_forward(net: TMBSN, x: Tensor, k: int) -> Tensor:
    """The paper's network, step by step: turn, convolve, shift down and left, turn back, concatenate, mix."""
    height, width = x.shape[-2:]
    parts = []
    for turns in range(4):
        features = net.unet(torch.rot90(x / 255, -turns, (2, 3)))
        rows, columns = features.shape[-2:]
        down = F.pad(features, (0, 0, k, 0))[:, :, :rows]
        left = F.pad(features, (0, k, 0, 0))[:, :, :, k:]
        assert left.shape[-1] == columns
        parts += [torch.rot90(part, turns, (2, 3)) for part in (down, left)]
    x = net.nin_A(torch.cat(parts, dim=1)).relu()
    assert x.shape[-2:] == (height, width)
    return net.nin_C(net.nin_B(x).relu()) * 255


@pytest.mark.parametrize("size", [(24, 24), (9, 31), (32, 5), (1, 1), (2, 3)])
@torch.no_grad()
def test_is_the_papers_network_at_any_size(size: tuple[int, int]) -> None:
    net, x = build(), picture(*size, batch=2)
    family = net.forward_teachers(x, KS)
    for k in KS:
        expected = plain_forward(net, x, k)
        torch.testing.assert_close(net(x, k), expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(family[k], expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_family_in_blocks_of_rows_equals_separate_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atbsn.ops.blind_spot.block_pixels", lambda device, num_heads: 40)
    net, x = build(), picture(61, 20, batch=3)
    separate = torch.stack([net(x, k) for k in (5, 0, 2)])
    torch.testing.assert_close(net.forward_teachers(x, (5, 0, 2)), separate, rtol=1e-10, atol=1e-10)


# --- blindness ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [False, True], ids=["forward", "forward_teachers"])
@pytest.mark.parametrize("size", [(24, 24), (20, 31)])
def test_blind_to_exactly_the_diamond_around_a_pixel(size: tuple[int, int], together: bool) -> None:
    height, width = size
    net, x = build(width=6, num_blocks=2), picture(height, width, batch=6).requires_grad_()
    outputs = net.forward_teachers(x, KS) if together else [net(x, k) for k in KS]
    places = [(height // 2, width // 2), (0, 0), (height - 1, 3), (7, width - 1), (2, 11)]
    for k, output in zip(KS, outputs, strict=True):
        for row, column in places:
            seen = influence(output, x, row, column)
            away = (torch.arange(height) - row).abs()[:, None] + (torch.arange(width) - column).abs()
            assert not seen[away < k].any(), f"k = {k} sees inside the diamond around {row, column}"
            assert (seen[(away >= k) & (away <= 8)] > 0).all(), f"k = {k} misses something outside of it"


def test_masked_taps_have_no_gradient() -> None:
    net = build()
    net(picture(16, 16), 5).square().mean().backward()
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            assert not module.weight.grad.tril(-1).any()
            assert module.weight.grad.triu().any()


@pytest.mark.parametrize("k", [-1, 2.0, True, 1024, "3"])
def test_no_hole(k: Any) -> None:
    with pytest.raises(UserError, match=r"k = .*: the radius of the diamond is a whole number from 0"):
        build()(picture(8, 8), k)
    with pytest.raises(UserError, match=r"k = .*: the radius of the diamond is a whole number from 0"):
        build().forward_teachers(picture(8, 8), (2, k))


def test_no_teacher() -> None:
    with pytest.raises(UserError, match="ks is empty"):
        build().forward_teachers(picture(8, 8), ())


# --- denoising ---------------------------------------------------------------------------------------------


@torch.no_grad()
def test_denoises_within_16_reflected_pixels() -> None:
    net, x = build(), picture(20, 30)
    padded = F.pad(x, (16, 16, 16, 16), mode="reflect")
    torch.testing.assert_close(net.denoise(x, k=2), net(padded, 2)[..., 16:-16, 16:-16])
    torch.testing.assert_close(net.denoise(x), net.denoise(x, k=4))
    laid = []

    def whole(function: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        laid.append(image.shape)
        return function(image)

    family = net.denoise_family(x, (2, 0), whole)
    torch.testing.assert_close(family, torch.stack([net.denoise(x, whole, k=k) for k in (2, 0)]))
    assert laid == [padded.shape] * 3


def test_a_family_costs_little_more_than_its_features() -> None:
    net, x, ks = TMBSN(), torch.zeros(1, 3, 64, 64), (2, 3, 4, 5, 6)

    def flops(run: Callable[..., Any]) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run()
        return counter.get_total_flops()

    assert 5 * flops(lambda: net(x, 4)) > 4 * flops(lambda: net.forward_teachers(x, ks))


def test_training_is_one_graph_in_bfloat16() -> None:
    net: Any = build_arch({"type": "TMBSN", "width": 4, "num_blocks": 1}).to(memory_format=torch.channels_last)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: (net(x, 5) - x).abs().mean(), backend="aot_eager", fullgraph=True)
    x = torch.rand(2, 3, 32, 32).mul(255).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        loss, expected = compiled(x), (net(x, 5) - x).abs().mean()
        assert net(x, 5).dtype == torch.float32
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=0)
    family = torch.compile(net.forward_teachers, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(family(x, (2, 3)), net.forward_teachers(x, (2, 3)), rtol=1e-4, atol=1e-3)
