"""Up-sampling by nearest neighbours keeps the type, whatever autocast would like."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from atbsn.ops import upsampling, ways
from atbsn.ops.upsampling import upsample_nearest, upsampled_beside, upsampling_kernel


def test_every_pixel_in_four_places() -> None:
    x = torch.arange(4.0).view(1, 1, 2, 2)
    assert upsample_nearest(x)[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_outside_of_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's list of what autocast turns to float32 has it; the CPU's has not, so the context is looked at."""
    seen = []
    original = F.interpolate

    def noted(*args: Any, **how: Any) -> Any:
        seen.append(torch.is_autocast_enabled("cpu"))
        return original(*args, **how)

    monkeypatch.setattr(upsampling.F, "interpolate", noted)
    with torch.autocast("cpu", torch.bfloat16):
        assert upsample_nearest(torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")
    assert seen == [False]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_beside_a_skip_as_a_gpu_does_it(
    memory_format: torch.memory_format, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values, types, gradients and the layout in memory."""
    x = torch.randn(2, 5, 3, 4, dtype=dtype).contiguous(memory_format=memory_format).requires_grad_()
    skip = torch.randn(2, 3, 6, 8).contiguous(memory_format=memory_format).requires_grad_()
    weights = torch.randn(2, 8, 6, 8)
    results = []
    for gpu in (False, True):
        monkeypatch.setattr(ways, "like_a_gpu", lambda device, gpu=gpu: gpu)
        x.grad = skip.grad = None
        output = upsampled_beside(x, skip)
        (output.float() * weights).sum().backward()
        assert output.is_contiguous(memory_format=memory_format)
        results.append((output.detach(), x.grad, skip.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("gpu", "compiling"), [(False, False), (True, True), (True, False)])
def test_only_a_gpu_writes_both_to_their_places(gpu: bool, compiling: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "like_a_gpu", lambda device: gpu)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    x, skip = torch.randn(1, 2, 2, 3, requires_grad=True), torch.randn(1, 1, 4, 6)
    output = upsampled_beside(x, skip)
    assert ("UpsampledBeside" in str(output.grad_fn)) == (gpu and not compiling)
    assert torch.equal(output, torch.cat((x.repeat_interleave(2, 2).repeat_interleave(2, 3), skip), dim=1))


def test_gradients_that_are_not_wanted_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "like_a_gpu", lambda device: True)
    for of_x, of_skip in ((True, False), (False, True)):
        x, skip = torch.randn(1, 2, 2, 3, requires_grad=of_x), torch.randn(1, 1, 4, 6, requires_grad=of_skip)
        upsampled_beside(x, skip).sum().backward()
        assert x.grad is None or x.grad.eq(4).all()
        assert skip.grad is None or skip.grad.eq(1).all()
        assert [x.grad is None, skip.grad is None] == [not of_x, not of_skip]


def test_an_upsampled_convolution_is_one_transposed_convolution() -> None:
    x, weight = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randn(6, 3, 3, 3, dtype=torch.float64)
    kernel = upsampling_kernel(weight)
    assert kernel.shape == (3, 6, 4, 4)
    expected = F.conv2d(upsample_nearest(x), weight, padding=1)
    torch.testing.assert_close(F.conv_transpose2d(x, kernel, stride=2, padding=1), expected)


@pytest.mark.gpu
def test_beside_a_skip_on_a_gpu() -> None:
    x, skip = torch.randn(2, 8, 3, 4), torch.randn(2, 3, 6, 8)
    expected = upsampled_beside(x, skip)
    x, skip = (each.cuda().to(memory_format=torch.channels_last).requires_grad_() for each in (x, skip))
    output = upsampled_beside(x, skip)
    output.sum().backward()
    torch.testing.assert_close(output.cpu(), expected)
    torch.testing.assert_close(x.grad.cpu(), torch.full((2, 8, 3, 4), 4.0))
    assert skip.grad.eq(1).all()


@pytest.mark.gpu
def test_stays_in_16_bits_on_a_gpu() -> None:
    x = torch.rand(1, 8, 4, 4, device="cuda", dtype=torch.bfloat16)
    with torch.autocast("cuda", torch.bfloat16):
        assert upsample_nearest(x).dtype == torch.bfloat16
