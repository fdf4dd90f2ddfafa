from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import atbsn
from atbsn.archs.base import Network
from atbsn.archs.students import StudentA, StudentB, StudentC

CONVOLUTIONS = {
    StudentA: [f"{stage}.conv" for stage in ("enc1", "enc2", "enc3", "dec2", "dec1")],
    StudentB: [f"enc{n}.conv{m}" for n in (1, 2, 3) for m in (1, 2, 3)]
    + [f"dec{n}.conv{m}" for n in (2, 1) for m in (1, 2, 3, 4)],
    StudentC: [f"unet.{stage}" for stage in ("intro", *(f"enc{n}.conv1" for n in range(1, 7)))]
    + [f"unet.dec{n}.conv{m}" for n in range(1, 6) for m in (1, 2)],
}
STUDENTS = list(CONVOLUTIONS)


def picture(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1), dtype=dtype) * 255


def build(student: type[Any]) -> Any:
    torch.manual_seed(0)
    return (StudentC(width=4) if student is StudentC else student()).eval()


@torch.no_grad()
def check_golden(net: Network, golden: dict[str, Any]) -> None:
    for number in (0, 1):
        if f"x{number}" in golden:
            torch.testing.assert_close(net(golden[f"x{number}"]), golden[f"y{number}"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["student_a", "student_c_width8"])
def test_meets_the_authors_outputs(assets: Path, name: str) -> None:
    net = atbsn.load(assets / f"{name}.weights.safetensors")
    check_golden(net, load_file(assets / f"{name}.io.safetensors"))


@pytest.mark.parametrize("name", ["student_b", "student_c"])
def test_meets_the_authors_outputs_at_full_width(shared: Path, name: str) -> None:
    net = atbsn.load(shared / "golden" / f"{name}.weights.safetensors")
    check_golden(net, load_file(shared / "golden" / f"{name}.io.safetensors"))


@pytest.mark.parametrize(("student", "number"), [(StudentA, 128_385), (StudentB, 856_656), (StudentC, 1_003_011)])
def test_number_of_parameters(student: type[StudentA] | type[StudentB] | type[StudentC], number: int) -> None:
    assert sum(parameter.numel() for parameter in student().parameters()) == number


@pytest.mark.parametrize("student", STUDENTS)
def test_names_of_the_authors_state_dict(student: type[StudentA] | type[StudentB] | type[StudentC]) -> None:
    kinds = ("weight", "bias") if student is StudentC else ("weight",)
    expected = {f"{conv}.conv.{kind}" for conv in CONVOLUTIONS[student] for kind in kinds}
    assert set(student().state_dict()) == expected


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (4, 4), (5, 7), (31, 33), (45, 70)])
@pytest.mark.parametrize("student", STUDENTS)
@torch.no_grad()
def test_any_size(student: type[StudentA] | type[StudentB] | type[StudentC], size: tuple[int, int]) -> None:
    x = picture(*size)
    output = build(student)(x)
    assert output.shape == x.shape
    assert output.isfinite().all()


@pytest.mark.parametrize("student", STUDENTS)
@torch.no_grad()
def test_denoising_is_one_pass(student: type[StudentA] | type[StudentB] | type[StudentC]) -> None:
    net, x = build(student), picture(32, 32)
    assert torch.equal(net.denoise(x), net(x))
    assert torch.equal(net.denoise(x, tiled=lambda function, y: function(y) + 1), net(x) + 1)


@pytest.mark.parametrize("student", [StudentA, StudentB])
@torch.no_grad()
def test_light_students_have_neither_bias_nor_border(student: type[StudentA] | type[StudentB]) -> None:
    """Without biases and with replicate padding, exposure scales through and a flat picture stays flat."""
    net, x = build(student).double(), picture(16, 20, dtype=torch.float64)
    torch.testing.assert_close(net(x / 4), net(x) / 4)
    flat = net(torch.tensor([20.0, 100.0, 50.0], dtype=torch.float64).view(1, 3, 1, 1).expand(1, 3, 16, 20))
    torch.testing.assert_close(flat, flat[..., :1, :1].expand_as(flat))


@torch.no_grad()
def test_mean_is_taken_off_and_the_last_bias_starts_there() -> None:
    torch.manual_seed(0)
    net = StudentC(width=4, mean=127.5)
    grey = torch.full((1, 3, 32, 32), 127.5)
    assert torch.equal(net(grey), grey)
    plain = StudentC(width=4)
    plain.load_state_dict(net.state_dict())
    x = picture(32, 40)
    torch.testing.assert_close(net(x), plain(x - 127.5))


@pytest.mark.parametrize("student", STUDENTS)
@torch.no_grad()
def test_channels_last_changes_nothing(student: type[StudentA] | type[StudentB] | type[StudentC]) -> None:
    net, x = build(student), picture(32, 64)
    expected = net(x)
    actual = net.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("student", STUDENTS)
@torch.no_grad()
def test_bfloat16(student: type[StudentA] | type[StudentB] | type[StudentC]) -> None:
    net, x = build(student), picture(32, 32)
    expected = net(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = net(x)
    pure = net.bfloat16()(x.bfloat16())
    for output in (mixed, pure):
        assert (output - expected).abs().mean() < 0.02 * expected.abs().max()
