from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import atbsn
from atbsn.archs.atbsn import ATBSN
from atbsn.archs.base import Network
from atbsn.archs.unet import UNetBody
from atbsn.ops.blind_spot import blind_spot_shift
from atbsn.utils.errors import UserError

KS = (0, 1, 3, 5, 7, 9, 11)
GOLDEN_TOLERANCE = 1e-3


def build(width: int = 4, **arguments: Any) -> ATBSN:
    torch.manual_seed(0)
    return ATBSN(width, **arguments).eval()


def picture(*size: int, batch: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, *size, generator=generator, dtype=dtype) * 255


# --- the published network ---------------------------------------------------------------------------------


def test_meets_the_authors_outputs(assets: Path) -> None:
    net = atbsn.build_arch({"type": "ATBSN", "width": 8})
    atbsn.load_weights(net, assets / "atbsn_width8.weights.safetensors")
    check_golden(net, load_file(assets / "atbsn_width8.io.safetensors"), alone=KS)


def test_meets_the_authors_outputs_at_full_width(shared: Path) -> None:
    net = atbsn.load(shared / "golden" / "atbsn.weights.safetensors")
    check_golden(net, load_file(shared / "golden" / "atbsn.io.safetensors"), alone=(3, 9))


@torch.no_grad()
def check_golden(net: Network, golden: dict[str, Tensor], alone: tuple[int, ...]) -> None:
    """All blind spots together, and those of ``alone`` in passes of their own."""
    outputs = dict(zip(KS, net.forward_teachers(golden["x"], KS), strict=True))
    for k in KS:
        torch.testing.assert_close(outputs[k], golden[f"y_k{k}"], rtol=0, atol=GOLDEN_TOLERANCE)
    for k in alone:
        torch.testing.assert_close(net(golden["x"], k=k), golden[f"y_k{k}"], rtol=0, atol=GOLDEN_TOLERANCE)


def test_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in ATBSN().parameters()) == 1_268_547


def test_names_of_the_authors_state_dict() -> None:
    convs = [f"{stage}.conv" for stage in ("intro", *(f"enc{n}.conv1" for n in range(1, 7)))]
    convs += [f"dec{n}.conv{m}.conv" for n in range(1, 6) for m in (1, 2)]
    layers = [f"unet.{conv}" for conv in convs] + ["nin_A", "nin_B", "nin_C"]
    assert set(build().state_dict()) == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def test_initial_weights() -> None:
    state = build(width=48).state_dict()
    assert not any(tensor.any() for name, tensor in state.items() if name.endswith("bias"))
    for name, weight in state.items():
        if name.endswith("weight"):
            gain_squared = 1 if name == "nin_C.weight" else 2 / (1 + 0.1**2)
            expected = (gain_squared / weight[0].numel()) ** 0.5
            assert weight.std().item() == pytest.approx(expected, rel=0.12), name


def plain_forward(net: ATBSN, x: Tensor, k: int) -> Tensor:
    """The paper's network, step by step: turn, U-Net, shift down, turn back, concatenate, mix."""
    shift = blind_spot_shift(k)
    parts = []
    for turns in range(4):
        features = net.unet(torch.rot90(x, -turns, (2, 3)))
        shifted = F.pad(features, (0, 0, shift, 0))[:, :, : features.shape[2]]
        parts.append(torch.rot90(shifted, turns, (2, 3)))
    mixed = F.leaky_relu(net.nin_A(torch.cat(parts, dim=1)), 0.1)
    return net.nin_C(F.leaky_relu(net.nin_B(mixed), 0.1))


@pytest.mark.parametrize("size", [(32, 32), (32, 64), (96, 32)])
@torch.no_grad()
def test_is_the_papers_network_on_any_rectangle(size: tuple[int, int]) -> None:
    net, x = build().double(), picture(*size, dtype=torch.float64)
    for k in KS:
        torch.testing.assert_close(net(x, k=k), plain_forward(net, x, k), rtol=1e-9, atol=1e-9)


# --- blindness ---------------------------------------------------------------------------------------------


def influence(output: Tensor, x: Tensor, pixels: list[tuple[int, int]]) -> Tensor:
    """|d out(p) / d in(q)| for the p-th pixel of the p-th picture of the batch: (P, H, W), largest channel."""
    rows, columns = zip(*pixels, strict=True)
    seen = output[range(len(pixels)), :, rows, columns] @ torch.tensor([0.7, -1.1, 1.3])
    (gradient,) = torch.autograd.grad(seen.sum(), x, retain_graph=True)
    return gradient.abs().amax(dim=1)


def chebyshev(pixels: list[tuple[int, int]], height: int, width: int) -> Tensor:
    """|q - p|_inf: (P, H, W)."""
    p = torch.tensor(pixels)
    rows = (torch.arange(height) - p[:, :1]).abs()
    columns = (torch.arange(width) - p[:, 1:]).abs()
    return torch.maximum(rows[:, :, None], columns[:, None, :])


@pytest.mark.parametrize("mean", [0.0, 127.5])
@pytest.mark.parametrize("size", [(32, 32), (32, 64), (64, 32)])
@pytest.mark.parametrize("together", [False, True], ids=["forward", "forward_teachers"])
def test_blind_to_exactly_the_square_around_a_pixel(size: tuple[int, int], together: bool, mean: float) -> None:
    height, width = size
    bottom, right = height - 1, width - 1
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    borders = [(0, width // 2), (bottom, 7), (height // 2 - 1, 0), (height // 2, right)]
    inside = [(height // 2, width // 2), (height // 2 - 1, width // 2 - 3), (3, right - 4), (bottom - 9, 10)]
    pixels = corners + borders + inside
    net = build(mean=mean)
    x = picture(height, width, batch=len(pixels)).requires_grad_()
    distance = chebyshev(pixels, height, width)
    outputs = net.forward_teachers(x, KS) if together else (net(x, k=k) for k in KS)
    for k, output in zip(KS, outputs, strict=True):
        shift = blind_spot_shift(k)
        seen = influence(output, x, pixels)
        assert not seen[distance < shift].any(), f"k = {k} sees inside its blind spot"
        for which, (row, column) in enumerate(pixels):
            for down, across in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                i, j = row + down * shift, column + across * shift
                if 0 <= i < height and 0 <= j < width:
                    assert seen[which, i, j] > 0, f"k = {k} is blind at distance {shift} of {row, column}"


def test_unet_of_the_teacher_sees_no_later_row() -> None:
    torch.manual_seed(0)
    net = UNetBody(4, out_channels=8, half_plane=True)
    x = picture(64, 32).requires_grad_()
    features = net(x)
    for row in (0, 1, 17, 31, 32, 62, 63):
        (gradient,) = torch.autograd.grad(features[:, :, row].sum(), x, retain_graph=True)
        assert not gradient[:, :, row + 1 :].any()
        assert gradient[:, :, row].any()


@pytest.mark.parametrize("k", [-1, 2, 8, 3.0])
def test_no_blind_spot(k: Any) -> None:
    net, x = build(), picture(32, 32)
    with pytest.raises(UserError, match=f"k = {k}: .* odd number; use 0, 1, 3"):
        net(x, k=k)
    with pytest.raises(UserError, match=f"k = {k}: .* odd number; use 0, 1, 3"):
        net.forward_teachers(x, (0, k))


def test_no_teacher() -> None:
    with pytest.raises(UserError, match="ks is empty"):
        build().forward_teachers(picture(32, 32), ())


# --- the family of teachers --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 64), (32, 64), (45, 70)])
@torch.no_grad()
def test_family_equals_separate_passes(size: tuple[int, int]) -> None:
    net, x = build(mean=10.0), picture(*size, batch=2)
    separate = torch.stack([net(x, k=k) for k in KS])
    torch.testing.assert_close(net.forward_teachers(x, KS), separate, rtol=0, atol=1e-3)
    net, x = net.double(), x.double()
    separate = torch.stack([net(x, k=k) for k in KS])
    torch.testing.assert_close(net.forward_teachers(x, KS), separate, rtol=1e-11, atol=1e-11)


def mmac_per_pixel(run: Callable[[], object], num_pixels: int) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() / 2 / num_pixels / 1e6


def test_family_costs_little_more_than_its_features() -> None:
    net, x = ATBSN(width=48), picture(128, 128)
    family = mmac_per_pixel(lambda: net.forward_teachers(x, KS), 128**2)
    separate = len(KS) * mmac_per_pixel(lambda: net(x, k=9), 128**2)
    assert family <= 1.5
    assert separate / family > 5.5


@torch.no_grad()
def test_denoising_lays_the_tiles_as_it_is_told() -> None:
    net, x = build(), picture(32, 64)
    laid = []

    def halves(function: Callable[..., Any], image: torch.Tensor) -> torch.Tensor:
        laid.append(image.shape)
        return torch.cat([function(half) for half in image.chunk(2, dim=-1)], dim=-1)

    parts = x.chunk(2, dim=-1)
    assert torch.equal(net.denoise(x, k=5), net(x, k=5))
    assert torch.equal(net.denoise(x, k=5, tiled=halves), torch.cat([net(p, k=5) for p in parts], dim=-1))
    family = net.denoise_family(x, (0, 9), tiled=halves)
    assert torch.equal(family, torch.cat([net.forward_teachers(p, (0, 9)) for p in parts], dim=-1))
    assert laid == [x.shape, x.shape]


# --- sizes, types and layouts ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 3), (7, 5), (31, 33), (45, 70)])
@torch.no_grad()
def test_any_size_is_reflected_to_a_multiple_of_32(size: tuple[int, int]) -> None:
    net, x = build(mean=127.5), picture(*size)
    height, width = size
    rows = reflected(height)
    columns = reflected(width)
    whole = net(x[..., rows, :][..., columns], k=3)
    torch.testing.assert_close(net(x, k=3), whole[..., :height, :width], rtol=0, atol=1e-4)
    assert net.forward_teachers(x, (0, 11)).shape == (2, *x.shape)


def reflected(size: int) -> list[int]:
    """Indices 0 ... size-1, size-2 ... 0, 1 ... up to the next multiple of 32."""
    there_and_back = [*range(size), *range(size - 2, 0, -1)]
    length = -(-size // 32) * 32
    return (there_and_back * length)[:length]


@torch.no_grad()
def test_mean_is_taken_off_and_added_again() -> None:
    net, centred = build(), build(mean=100.0)
    centred.load_state_dict(net.state_dict())
    x = picture(32, 64)
    torch.testing.assert_close(centred(x, k=3), net(x - 100, k=3) + 100)
    torch.testing.assert_close(centred.forward_teachers(x), net.forward_teachers(x - 100) + 100)


@torch.no_grad()
def test_channels_last_changes_nothing() -> None:
    net, x = build(width=8), picture(64, 32, batch=2)
    expected = net.forward_teachers(x)
    net = net.to(memory_format=torch.channels_last)
    actual = net.forward_teachers(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-3)


@torch.no_grad()
def test_bfloat16() -> None:
    net, x = build(width=8), picture(64, 32)
    expected = net.forward_teachers(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = net.forward_teachers(x)
    assert (mixed - expected).abs().mean() < 0.01 * expected.abs().max()
    pure = net.bfloat16().forward_teachers(x.bfloat16())
    assert pure.dtype == torch.bfloat16
    assert (pure - expected).abs().mean() < 0.02 * expected.abs().max()
