"""Chains of dilated convolutions, with dilation and by phases."""

import pytest
import torch
from torch.nn import functional as F

from atbsn.ops import ways
from atbsn.ops.convolution import Conv2d
from atbsn.ops.dilation import DilatedConv2d, in_phases, through_dilated


class Pointwise(Conv2d):
    """A 1 x 1 convolution, to which ``dense`` makes no difference."""

    def forward(self, x: torch.Tensor, dense: bool = False) -> torch.Tensor:
        return super().forward(x)


def chain(dilation: int) -> list[Conv2d]:
    torch.manual_seed(0)
    return [DilatedConv2d(4, dilation), Pointwise(4, 4, 1), DilatedConv2d(4, dilation)]


def plain(modules: list[Conv2d], x: torch.Tensor, dilation: int) -> torch.Tensor:
    for module in modules:
        by = dilation if module.kernel_size == (3, 3) else 0
        x = F.conv2d(x, module.weight, module.bias, padding=by, dilation=max(1, by))
    return x


@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_phases_give_the_same_sums(dilation: int) -> None:
    modules, x = chain(dilation), torch.randn(2, 4, 6 * dilation, 5 * dilation)
    expected = plain(modules, x, dilation)
    torch.testing.assert_close(in_phases(modules, x, dilation), expected)
    torch.testing.assert_close(through_dilated(modules, x, dilation), expected)


@pytest.mark.parametrize(
    ("gpu", "size", "by_phases"),
    [(True, (12, 9), True), (True, (12, 10), False), (True, (11, 9), False), (False, (12, 9), False)],
)
def test_a_gpu_takes_the_phases_of_multiples(
    gpu: bool, size: tuple[int, int], by_phases: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "like_a_gpu", lambda device: gpu)
    modules, x, seen = chain(3), torch.randn(1, 4, *size), []
    for module in modules:
        module.register_forward_hook(lambda module, given, result: seen.append(given[0].shape))
    torch.testing.assert_close(through_dilated(modules, x, 3), plain(modules, x, 3))
    assert seen == [(9, 4, size[0] // 3, size[1] // 3) if by_phases else (1, 4, *size)] * 3
