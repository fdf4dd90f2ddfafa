"""Everything that is computed in a cheaper way than the papers write it equals the plain form in scripts/naive.py."""

from pathlib import Path

import pytest
import torch
from helpers.networks import pair, picture
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import naive
from atbsn.archs import build_arch
from atbsn.archs.unet import ConvLReLU, Decoder
from atbsn.archs.weights import save_weights
from atbsn.models import build_model
from atbsn.ops.upsampling import upsampling_kernel

KS = (0, 1, 3, 5, 7, 9, 11)


def gradients(net: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def assert_same_gradients(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> None:
    assert ours.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-9, atol=1e-9 * gradient.abs().max().item(), msg=name)


# --- networks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(64, 64), (32, 96), (45, 70)])
@torch.no_grad()
def test_atbsn(size: tuple[int, int], memory_format: torch.memory_format) -> None:
    ours, plain = pair(naive, "ATBSN", width=4)
    x = picture(*size, batch=2)
    ours, y = ours.to(memory_format=memory_format), x.contiguous(memory_format=memory_format)
    for k in (0, 1, 9) if size[0] == size[1] else (3,):
        expected = plain(x, k=k) if size[0] == size[1] else turned_separately(plain, x, k)
        torch.testing.assert_close(ours(y, k=k), expected)


def turned_separately(plain: nn.Module, x: Tensor, k: int) -> Tensor:
    """The plain network without its square, one rotation at a time."""
    height, width = x.shape[-2:]
    x, shift = F.pad(x, (0, -width % 32, 0, -height % 32), mode="reflect"), (k + 1) // 2
    parts = []
    for turns in range(4):
        features = plain.unet(torch.rot90(x, -turns, (2, 3)))
        features = F.pad(features, (0, 0, shift, 0))[:, :, : features.shape[2]]
        parts.append(torch.rot90(features, turns, (2, 3)))
    x = F.leaky_relu(plain.nin_A(torch.cat(parts, dim=1)), 0.1)
    return plain.nin_C(F.leaky_relu(plain.nin_B(x), 0.1))[..., :height, :width]


@pytest.mark.parametrize("pixels", [1, 600, 2**12, 2**20])
@torch.no_grad()
def test_teachers_in_blocks_of_any_size(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows, of a picture, of several pictures."""
    monkeypatch.setattr("atbsn.ops.blind_spot.block_pixels", lambda device, num_heads: pixels)
    ours, plain = pair(naive, "ATBSN", width=2)
    x, ks = picture(64, 64, batch=3), (0, 3, 11)
    torch.testing.assert_close(ours.forward_teachers(x, ks), plain.forward_teachers(x, ks))


@pytest.mark.parametrize("name", ["StudentA", "StudentB", "StudentC"])
@pytest.mark.parametrize("size", [(32, 64), (36, 44), (45, 70)])
@torch.no_grad()
def test_students(name: str, size: tuple[int, int]) -> None:
    ours, plain = pair(naive, name, **({"width": 4} if name == "StudentC" else {}))
    x = picture(*size)
    torch.testing.assert_close(ours(x), plain(x))


@torch.no_grad()
def test_cbsn() -> None:
    ours, plain = pair(naive, "CBSN", width=4)
    x = picture(40, 53)
    torch.testing.assert_close(ours.denoise(x), plain.denoise(x))


# --- gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_atbsn(memory_format: torch.memory_format) -> None:
    ours, plain = pair(naive, "ATBSN", width=4)
    x = picture(64, 64, batch=2)
    model = build_model({"type": "BSNModel"}, ours).to(memory_format=memory_format)
    loss = model({"noisy": x.contiguous(memory_format=memory_format)}, torch.zeros(()))["loss"]
    expected = naive.bsn_loss(plain, x)
    torch.testing.assert_close(loss, expected)
    assert_same_gradients(gradients(ours, loss), gradients(plain, expected))


@pytest.mark.parametrize("name", ["StudentA", "StudentB", "StudentC"])
def test_gradients_of_distillation(name: str, tmp_path: Path) -> None:
    teacher, plain_teacher = pair(naive, "ATBSN", width=4)
    save_weights(tmp_path / "teacher.pth", teacher.state_dict(), {"network": teacher.options})
    arguments = {"width": 4} if name == "StudentC" else {}
    ours, plain = pair(naive, name, **arguments)
    options = {"type": "DistillModel", "teacher": str(tmp_path / "teacher.pth"), "ks": list(KS), "transfer": False}
    model = build_model(options, ours).double()
    x = picture(32, 32, batch=2)
    loss = model({"noisy": x}, torch.zeros(()))["loss"]
    expected = naive.distill_loss(plain, plain_teacher, x)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    # The method compares in float32, where a sign may flip.
    ours_, plain_ = gradients(ours, loss), gradients(plain, expected)
    for key, gradient in plain_.items():
        torch.testing.assert_close(ours_[key], gradient, rtol=0, atol=1e-2 * gradient.abs().max().item(), msg=key)


def test_terms_of_cbsn() -> None:
    """All but the one that draws pixels, which differ."""
    ours, plain = pair(naive, "CBSN", width=4)
    model = build_model({"type": "CBSNModel"}, ours)
    x = picture(20, 30, batch=2)
    losses = model({"noisy": x}, torch.ones(()))
    y, _, _ = naive._standardise(x)
    phases = [y[:, :, row::5, column::5] for row in range(5) for column in range(5)]
    blind = torch.stack([(plain(phase, blind=True) - phase).abs().mean() for phase in phases]).mean()
    torch.testing.assert_close(losses["blind"], blind)
    torch.testing.assert_close(losses["self"], (plain(y, blind=False) - y).abs().mean())


# --- up-sampling folded into a convolution ----------------------------------------------------------------------


def test_upsampling_kernel_is_the_convolution_of_the_upsampled() -> None:
    x, weight = torch.randn(2, 5, 6, 7, dtype=torch.float64), torch.randn(4, 5, 3, 3, dtype=torch.float64)
    expected = F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, padding=1)
    folded = F.conv_transpose2d(x, upsampling_kernel(weight), stride=2, padding=1)
    torch.testing.assert_close(folded, expected)


@pytest.mark.parametrize("half_plane", [False, True])
def test_folded_decoder_is_the_plain_one(half_plane: bool) -> None:
    torch.manual_seed(0)
    decoder = Decoder(6 + 3, 6, 5, half_plane, last=True).double()
    margin = 1 if half_plane else 0
    x = F.pad(torch.randn(2, 6, 8, 8, dtype=torch.float64), (0, 0, margin, 0))
    skip = F.pad(torch.randn(2, 3, 16, 16, dtype=torch.float64), (0, 0, 2 * margin, 0))
    results = {}
    for fold in (True, False):
        decoder.last = fold
        output = decoder(x, skip, margin)
        results[fold] = output, gradients(decoder, output.square().sum())
    torch.testing.assert_close(results[True][0], results[False][0])
    assert_same_gradients(results[True][1], results[False][1])


def test_folding_saves_multiplications() -> None:
    conv = ConvLReLU(96 + 3, 96, half_plane=False)
    x, skip = torch.zeros(1, 96, 16, 16), torch.zeros(1, 3, 32, 32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        conv.upsampled(x, skip)
    assert counter.get_total_flops() / 2 / 32**2 == 96 * (4 * 96 + 9 * 3)


# --- torch.compile -------------------------------------------------------------------------------------------


def training_methods(folder: Path) -> dict[str, nn.Module]:
    teacher = build_arch({"type": "ATBSN", "width": 2})
    save_weights(folder / "teacher.pth", teacher.state_dict(), {"network": teacher.options})
    distill = {"type": "DistillModel", "teacher": str(folder / "teacher.pth"), "ks": [0, 3]}
    student = {"type": "StudentC", "width": 2}
    return {
        "bsn": build_model({"type": "BSNModel"}, build_arch({"type": "ATBSN", "width": 2})),
        "bsn with mean": build_model({"type": "BSNModel"}, build_arch({"type": "ATBSN", "width": 2, "mean": 127.5})),
        "student a": build_model(distill, build_arch({"type": "StudentA"})),
        "multi_teacher": build_model(distill, build_arch(student)),
        "mean_teacher": build_model({**distill, "loss": "mean_teacher"}, build_arch(student)),
        "region": build_model({**distill, "loss": "region"}, build_arch(student)),
        "cbsn": build_model({"type": "CBSNModel"}, build_arch({"type": "CBSN", "width": 2})),
    }


METHODS = ["bsn", "bsn with mean", "student a", "multi_teacher", "mean_teacher", "region", "cbsn"]


@pytest.mark.parametrize(("method", "precision"), [*((name, "fp32") for name in METHODS), ("multi_teacher", "bf16")])
def test_losses_are_one_graph_that_is_compiled_once(method: str, precision: str, tmp_path: Path) -> None:
    """No graph break, and no recompilation as data, progress and gradients change."""
    model = training_methods(tmp_path)[method].to(memory_format=torch.channels_last).train()
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    model.compile(backend=counter, fullgraph=True)
    side = 40 if method == "cbsn" else 32
    optimizer = torch.optim.Adam(model.net.parameters(), lr=1e-3)
    for step in range(4):
        noisy = (torch.rand(2, 3, side, side) * 255).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            losses = model({"noisy": noisy}, torch.full((), step / 4))
        losses["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        assert losses["loss"].isfinite()
    assert counter.frame_count == 1


@pytest.mark.parametrize("name", ["ATBSN", "StudentA", "StudentC", "CBSN"])
def test_inference_is_one_graph_that_is_compiled_once(name: str) -> None:
    net = build_arch({"type": name, **({} if name == "StudentA" else {"width": 2})}).eval()
    torch._dynamo.reset()
    x = [torch.rand(1, 3, 64, 64) * 255 for _ in range(3)]
    with torch.inference_mode():
        expected = [net.denoise(each) for each in x]
        counter = CompileCounterWithBackend("aot_eager")
        net.compile(backend=counter, fullgraph=True)
        for each, output in zip(x, expected, strict=True):
            torch.testing.assert_close(net.denoise(each), output, rtol=1e-4, atol=1e-3)
    assert counter.frame_count == 1
