"""The local median: constants, blocks, skewed noise, any size."""

from typing import Any

import numpy as np
import pytest
import torch

from atbsn.ops.local_median import _medians, local_median


@pytest.mark.parametrize("size", [(1, 1), (5, 200), (95, 97), (64, 64), (256, 256), (130, 301)])
def test_a_constant_is_its_own_median_at_any_size(size: tuple[int, int]) -> None:
    colours = torch.tensor([3.25, -7.0, 0.0]).view(1, 3, 1, 1).expand(2, 3, *size)
    torch.testing.assert_close(local_median(colours), colours.contiguous())


def test_medians_are_those_of_the_blocks_and_bilinear_between_their_centres() -> None:
    x = torch.randn(2, 3, 9, 15, generator=torch.Generator().manual_seed(0))
    found = local_median(x, side=3)
    corners = [(row, column) for row in range(0, 9, 3) for column in range(0, 15, 3)]
    blocks = torch.stack([x[..., row : row + 3, column : column + 3].flatten(-2) for row, column in corners], dim=-2)
    medians = blocks.sort(dim=-1).values[..., 4].unflatten(-1, (3, 5))
    torch.testing.assert_close(found[..., 1::3, 1::3], medians)
    torch.testing.assert_close(found[..., 1, 2], medians[..., 0, 0].lerp(medians[..., 0, 1], 1 / 3))
    torch.testing.assert_close(found[..., 0, 0], medians[..., 0, 0])


def test_a_few_extremes_do_not_move_it() -> None:
    x = torch.zeros(1, 3, 64, 64)
    x[..., ::8, ::8] = 1e6
    assert local_median(x).abs().max() == 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_input_stays_and_the_medians_are_torchs(layout: torch.memory_format) -> None:
    """Also of one block, which is not copied on the way."""
    for size in ((64, 64), (130, 70)):
        x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
        before = x.clone()
        median = local_median(x)
        assert torch.equal(x, before)
        assert torch.equal(median[..., 0, 0], x[..., :64, :64].flatten(-2).median(dim=-1).values)


@pytest.mark.gpu
@pytest.mark.parametrize("size", [(5, 7), (64, 64), (200, 333)])
def test_a_gpu_selects_the_same(size: tuple[int, int]) -> None:
    x = 20 * torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(local_median(x.cuda()).cpu(), local_median(x))


def test_a_median_below_zero_within_the_slack_counts_as_none_and_the_rest_counts() -> None:
    noise = 12 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    noise -= noise.flatten().median()
    shifts = torch.tensor([3.0, 0.0, -1.5, -4.0]).view(1, 4, 1, 1)
    found = local_median(noise + shifts, slack=1 / 6)[..., 0, 0]
    torch.testing.assert_close(found, torch.tensor([[3.0, 0.0, 0.0, -2.0]]), atol=0.06, rtol=0)
    assert local_median(torch.full((1, 1, 64, 64), -1.0), slack=1 / 6).eq(-1).all()  # without noise there is no slack


class Wrapped(torch.Tensor):
    """A tensor of a class of its own, as tracing makes them."""


@pytest.mark.parametrize("length", [1, 2, 3, 4, 9, 64])
@pytest.mark.parametrize("way", ["NumPy", "of another class", "compiling", "exported"])
def test_the_lower_median_by_every_way(way: str, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties and all; NumPy selects where nothing is traced."""
    values = torch.randint(-20, 20, (2, 3, 5, length), generator=torch.Generator().manual_seed(length)).float()
    expected = values.sort(dim=-1).values[..., (length - 1) // 2]
    calls, original = [], np.partition

    def noted(*given: Any, **how: Any) -> Any:
        calls.append(1)
        return original(*given, **how)

    monkeypatch.setattr(np, "partition", noted)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: way == "compiling")
    given = values.as_subclass(Wrapped) if way == "of another class" else values
    found = _medians(given, exported=way == "exported")
    assert torch.equal(found.as_subclass(torch.Tensor), expected)
    assert len(calls) == (way == "NumPy")


@pytest.mark.parametrize("slack", [0.25, 1.0])
def test_the_slack_is_in_deviations_of_each_block(slack: float) -> None:
    """Those of a Gaussian with the same mean distance from the median: sqrt(pi / 2) of it."""
    x = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(1)) * 10
    x[:, 0] -= 30
    found = local_median(x, side=4, slack=slack)
    for channel in range(2):
        values = x[0, channel].flatten()
        median = values.sort().values[7]
        allowed = slack * (torch.pi / 2) ** 0.5 * (values - median).abs().mean()
        expected = median if median >= 0 else min(median + allowed, torch.tensor(0.0))
        torch.testing.assert_close(found[0, channel], expected.expand(4, 4))
