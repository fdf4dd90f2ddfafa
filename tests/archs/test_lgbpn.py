from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import golden
from helpers.networks import assert_draws_are_those_of_the_generator, gradient_norm, influence, picture
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from atbsn.archs import restormer
from atbsn.archs.lgbpn import LGBPN, REFINE, TEST, PatchMaskedConv2d

PRESETS: Any = ("sidd", "dnd")


def build(**arguments: Any) -> LGBPN:
    torch.manual_seed(0)
    small = {"width": 8, "num_modules": 2, "head_width": 4, "num_blocks": 2}
    return LGBPN(**{**small, **arguments}).eval()


# --- the published network ---------------------------------------------------------------------------------


@pytest.fixture
def net(assets: Path) -> LGBPN:
    net = LGBPN(width=16, num_modules=3, head_width=8, num_blocks=2)
    net.load_state_dict(LGBPN.convert_state(load_file(assets / "lgbpn_width16.weights.safetensors")))
    return net.double()


def test_meets_the_authors_outputs_and_gradients(net: LGBPN, assets: Path) -> None:
    expected = golden.read_double(assets, "lgbpn_width16")
    check(net, expected, PRESETS)
    for name in ("tail.6.weight", "branch2.body.encoder_level1.0.attn.temperature"):
        gradient = net.get_parameter(name).grad
        torch.testing.assert_close(gradient, expected[f"grad.bsn.{name}"], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_meets_the_authors_masked_convolutions(net: LGBPN, assets: Path) -> None:
    expected = golden.read_double(assets, "lgbpn_width16")
    for name, conv, kernel in (
        ("local", net.branch1.Maskconv, "local_kernel"),
        ("global", net.branch2.Maskconv, "global_kernel"),
    ):
        test, refine = getattr(TEST["sidd"], kernel), getattr(REFINE["sidd"], kernel)
        for which, scale in (("train", 1.0), ("test_sidd", test), ("refine_sidd", refine)):
            output = conv(expected["head"], scale)[:, :4]
            torch.testing.assert_close(output, expected[f"{name}_maskconv_{which}"], rtol=0, atol=5e-5)


@pytest.mark.long
def test_meets_the_authors_outputs_at_full_width(shared: Path) -> None:
    net = LGBPN()
    golden.fill(net, shared / "golden", "lgbpn_full", prefix="bsn.")
    check(net.double(), golden.read_double(shared / "golden", "lgbpn_full"), PRESETS)


def check(net: LGBPN, expected: dict[str, Tensor], presets: Any) -> None:
    x = expected["x"]
    for preset in presets:
        with torch.no_grad():
            once = net.denoise(x, preset=preset, refine=0)
            refined = net.refine(x, once, expected["r3_mask"], preset=preset)
            whole = net.refine(x, x, torch.zeros_like(expected["r3_mask"][:1]), preset=preset)
            torch.testing.assert_close(once, expected[f"y_test_{preset}"], rtol=0, atol=5e-5)
            torch.testing.assert_close(whole, expected[f"y_refine_{preset}"], rtol=0, atol=5e-5)
            torch.testing.assert_close(refined, expected[f"y_r3_{preset}"], rtol=0, atol=5e-5)
    output = net(expected["x_train"])
    torch.testing.assert_close(output, expected["y_train"], rtol=0, atol=5e-5)
    loss = (output - expected["x_train"]).abs().mean()
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"].item(), rel=1e-6)
    assert gradient_norm(net) == pytest.approx(expected["grad_norm"].item(), rel=1e-5)


def test_number_of_parameters() -> None:
    net = LGBPN()
    convs = (net.branch1.Maskconv, net.branch2.Maskconv)
    masked = sum(int((conv.mask == 0).sum()) * conv.in_channels * conv.out_channels for conv in convs)
    assert sum(parameter.numel() for parameter in net.parameters()) == 4_558_879
    assert 4_558_879 - masked == 3_409_951


def test_an_authors_file_is_recognised() -> None:
    own = build().state_dict()
    foreign = {f"bsn.{name}": tensor for name, tensor in own.items()}
    for branch in ("branch1", "branch2"):
        foreign[f"bsn.{branch}.Maskconv.mask"] = torch.ones(1)
        foreign[f"bsn.{branch}.Maskconv.test_conv.weight"] = torch.ones(1)
    state = LGBPN.convert_state(foreign)
    assert state.keys() == own.keys()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert LGBPN.recognise(shapes) == {"width": 8, "num_modules": 2, "head_width": 4, "num_blocks": 2}
    assert LGBPN.convert_state({"bsn.head.0.weight": torch.zeros(1)}) is None


# --- the masked convolutions -------------------------------------------------------------------------------


def sampled(conv: PatchMaskedConv2d, x: Tensor, scale: float) -> Tensor:
    """Tap by tap, each of the picture shifted by its place, bilinearly."""
    reach = conv.kernel_size[0] // 2
    margin = reach + 1
    padded = F.pad(x, (margin,) * 4, mode="reflect")
    height, width = x.shape[-2:]

    def at(row: float, column: float) -> Tensor:
        total = torch.zeros_like(x)
        for i in (0, 1):
            for j in (0, 1):
                top, left = int(row // 1) + i, int(column // 1) + j
                share = (1 - abs(row - top)) * (1 - abs(column - left))
                start = margin + top, margin + left
                total += share * padded[..., start[0] : start[0] + height, start[1] : start[1] + width]
        return total

    total = conv.bias.view(-1, 1, 1)
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            if conv.mask[i + reach, j + reach]:
                tap = conv.weight[:, :, i + reach, j + reach]
                total = total + torch.einsum("oc,bchw->bohw", tap, at(scale * i, scale * j))
    return total


@pytest.mark.parametrize(("size", "step"), [(9, 1), (21, 2)])
@pytest.mark.parametrize("scale", [1.0, 0.72, 0.43, 0.35])
@torch.no_grad()
def test_a_scaled_kernel_is_one_small_convolution(size: int, step: int, scale: float) -> None:
    torch.manual_seed(0)
    conv = PatchMaskedConv2d(2, 3, size, step).double()
    x = torch.rand(1, 2, 30, 26, dtype=torch.float64)
    torch.testing.assert_close(conv(x, scale), sampled(conv, x, scale))
    if scale != 1:
        assert conv.kernel(scale)[0].shape[-1] < size


def hole(conv: PatchMaskedConv2d, scale: float) -> set[tuple[int, int]]:
    """Offsets around the centre at which the kernel is zero, one quarter of them."""
    kernel, _ = conv.kernel(scale)
    centre = kernel.shape[-1] // 2
    zero = (kernel == 0).all(dim=1).all(dim=0)
    return {(i, j) for i in range(centre + 1) for j in range(centre + 1) if zero[centre + i, centre + j]}


def test_holes_of_the_kernels() -> None:
    net = build()
    near, far = net.branch1.Maskconv, net.branch2.Maskconv
    assert {(i, j) for i, j in hole(near, 1.0) if i + j > 4} == set()
    assert hole(near, 1.0) == {(i, j) for i in range(5) for j in range(5) if i + j <= 4}
    assert hole(near, TEST["sidd"].local_kernel) == {(i, j) for i in range(2) for j in range(2)}
    small = {(i, j) for i, j in hole(far, TEST["sidd"].global_kernel) if i + j <= 4}
    assert small == {(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0)}
    for conv, kernel in ((near, "local_kernel"), (far, "global_kernel")):
        assert hole(conv, getattr(REFINE["sidd"], kernel)) == {(0, 0)}


# --- blindness ---------------------------------------------------------------------------------------------


def test_training_is_blind_to_the_diamond_inside_but_for_its_attention_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of tiles of 24 pixels, from where one block, of reach 9, does not leave them."""
    net, x = build(num_blocks=1).double(), picture(120, 120, batch=3).requires_grad_()
    row, column = 60, 57
    away = (torch.arange(120) - row).abs()[:, None] + (torch.arange(120) - column).abs()
    seen = influence(net(x), x, row, column)
    assert 0 < seen[away <= 4].max() < 1e-2 * seen.max()

    normalize = F.normalize
    monkeypatch.setattr(restormer.F, "normalize", lambda x, dim: normalize(x, dim=dim).detach())
    output = net(x)
    seen = influence(output, x, row, column)
    assert not seen[away <= 4].any()
    taps = [(1, 4), (4, -1), (-2, 3), (-3, -2)]
    assert all(seen[row + i, column + j] > 0 for i, j in taps)
    leaks = [influence(output, x, i, 60)[i, 60] > 0 for i in range(8)]
    assert leaks == [i in (3, 4, 5) for i in range(8)]  # what reflection puts under open taps


def test_tiles_of_a_deep_network_leak_into_the_diamond_but_not_to_the_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = build(num_blocks=2).double(), picture(60, 60, batch=3).requires_grad_()
    normalize = F.normalize
    monkeypatch.setattr(restormer.F, "normalize", lambda x, dim: normalize(x, dim=dim).detach())
    seen = influence(net(x), x, 30, 27)
    assert seen[30, 27] == 0
    away = (torch.arange(60) - 30).abs()[:, None] + (torch.arange(60) - 27).abs()
    assert 0 < seen[away <= 4].max() < 1e-3 * seen.max()


# --- denoising ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(40, 60), (33, 46), (32, 35)])
@torch.no_grad()
def test_any_size(size: tuple[int, int]) -> None:
    net, x = build(), picture(*size, dtype=torch.float32)
    assert net(x).shape == x.shape
    for preset in PRESETS:
        assert net.denoise(x, preset=preset, refine=1).shape == x.shape


@torch.no_grad()
def test_a_picture_can_be_denoised_through_the_hole_of_the_training() -> None:
    net, x = build().double(), picture(33, 46)
    assert torch.equal(net.denoise(x, preset="training", refine=0), net(x))
    assert not torch.equal(net.denoise(x, preset="sidd", refine=0), net(x))


def test_the_same_draws_give_the_same_picture() -> None:
    x = picture(32, 36)
    assert_draws_are_those_of_the_generator(build().double(), x, [x.shape, (1, 3, 36, 40), (1, 3, 36, 40)])


@pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="torch 2.6 compiles a view of a padded tensor wrongly")
def test_training_is_one_graph_in_bfloat16() -> None:
    net = build().to(memory_format=torch.channels_last)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    x = picture(40, 40, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        output = compiled(x)
    assert output.dtype == torch.float32
    output.mean().backward()
    with torch.no_grad():
        torch.testing.assert_close(output, net(x), rtol=0, atol=0.05 * net(x).abs().max().item())
