from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from atbsn.ops import blind_spot, ways
from atbsn.ops.blind_spot import (
    blind_spot_shift,
    block_pixels,
    concatenate_channels,
    half_plane_pool,
    in_blocks,
    leaky_relu_below,
    rotate,
    rows_outwards,
    shift_outwards,
    sums_of_shifts,
    unrotate,
)
from atbsn.utils.errors import UserError


@pytest.mark.parametrize(
    ("k", "shift"), [(0, 0), (1, 1), (3, 2), (5, 3), (7, 4), (9, 5), (11, 6), (13, 7), (1023, 512)]
)
def test_shift_of_a_blind_spot(k: int, shift: int) -> None:
    assert blind_spot_shift(k) == shift


@pytest.mark.parametrize("k", [-1, -2, 2, 4, 10, 1025, 2**63 - 1, True, 3.0, "3", None])
def test_no_blind_spot(k: Any) -> None:
    with pytest.raises(UserError, match=r"blind spot is .*; use 0, 1, 3"):
        blind_spot_shift(k)


def test_rotations_are_clockwise_quarter_turns() -> None:
    x = torch.rand(2, 3, 4, 7)
    for turns, turned in enumerate(rotate(x)):
        assert torch.equal(turned, torch.rot90(x, -turns, (2, 3)))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_rotations_keep_the_memory_format(memory_format: torch.memory_format) -> None:
    x = torch.rand(2, 3, 4, 7).contiguous(memory_format=memory_format)
    assert all(turned.is_contiguous(memory_format=memory_format) for turned in rotate(x))


def test_unrotate_turns_all_upright() -> None:
    x = torch.rand(2, 3, 4, 7)
    assert all(torch.equal(part, x) for part in unrotate(rotate(x)))


def shift_down(x: torch.Tensor, rows: int) -> torch.Tensor:
    """The shift as the paper has it, in a part's own rotation: zero rows in on top, the last ones out."""
    return F.pad(x, (0, 0, rows, 0))[:, :, : x.shape[2]]


def with_margin(x: torch.Tensor, margin: int) -> torch.Tensor:
    return F.pad(x, (0, 0, margin, 0))


@pytest.mark.parametrize(("shift", "margin"), [(0, 0), (0, 3), (1, 1), (2, 6), (5, 5), (6, 6), (9, 11)])
def test_shifting_outwards_is_shifting_down_before_unrotating(shift: int, margin: int) -> None:
    parts = rotate(torch.rand(2, 3, 4, 7))
    expected = unrotate([shift_down(part, shift) for part in parts])
    upright = unrotate([with_margin(part, margin) for part in parts])
    for shifted, part in zip(shift_outwards(upright, shift, margin), expected, strict=True):
        assert torch.equal(shifted, part)


@pytest.mark.parametrize("shift", [0, 1, 3])
@pytest.mark.parametrize(("top", "bottom"), [(0, 2), (1, 3), (2, 4), (0, 4)])
def test_rows_of_the_shifted_need_no_other_rows(top: int, bottom: int, shift: int) -> None:
    margin = 3
    upright = unrotate([with_margin(part, margin) for part in rotate(torch.rand(2, 3, 4, 7))])
    whole = shift_outwards(upright, shift, margin)
    cut = rows_outwards(upright, top, bottom, margin)
    rows = shift_outwards(cut, shift, margin)
    assert [part.shape[2] for part in cut] == [bottom - top + more for more in (margin, 0, margin, 0)]
    for part, of_rows in zip(whole, rows, strict=True):
        assert torch.equal(of_rows, part[..., top:bottom, :])


def total(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(parts)).sum(dim=0)


def upright(margin: int, batch: int = 3, height: int = 5, width: int = 8) -> tuple[torch.Tensor, ...]:
    """Four upright parts of whole numbers that have a margin."""
    torch.manual_seed(0)
    parts = rotate(torch.randint(-99, 99, (batch, 2, height, width)).float())
    return unrotate([with_margin(part, margin) for part in parts])


@pytest.mark.parametrize("shifts", [(0, 1, 2, 3), (1, 3), (0, 2, 4), (2,), (0, 1, 4), (3, 1), (2, 2)])
@pytest.mark.parametrize("learning", [False, True])
def test_sums_of_shifts_are_those_of_each(shifts: tuple[int, ...], learning: bool) -> None:
    parts = [part.requires_grad_(learning) for part in upright(margin=4)]
    expected = torch.cat([total(shift_outwards(parts, shift, 4)) for shift in shifts])
    with torch.set_grad_enabled(learning):
        sums = sums_of_shifts(parts, shifts, 4)
    assert torch.equal(sums, expected) and sums.requires_grad == learning
    assert learning or len(set(shifts)) == 1 or not torch.equal(sums[:3], sums[3:6])


@pytest.mark.parametrize("pixels", [1, 5 * 8, 2 * 5 * 8, 10**6])
def test_blocks_together_are_the_whole(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One picture of some rows at a time, one picture, two, or all."""
    margin, seen = 1, []

    def function(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        seen.append(parts[1].shape)
        return torch.stack([total(shift_outwards(parts, shift, margin)) for shift in (0, 1)])

    parts = upright(margin)
    expected = torch.stack([total(shift_outwards(parts, shift, margin)) for shift in (0, 1)])
    monkeypatch.setattr(blind_spot, "block_pixels", lambda device, num_heads: pixels // num_heads)
    assert torch.equal(in_blocks(parts, margin, function), expected)
    pictures, rows = {1: (1, 4), 40: (1, 5), 80: (2, 5), 10**6: (3, 5)}[pixels]
    assert seen[0][0] == pictures and seen[0][2] == rows
    assert sum(shape[0] * shape[2] for shape in seen) == 3 * 5
    if pixels == 80:
        seen.clear()
        in_blocks(parts, margin, function, num_heads=2)
        assert seen[0][0] == 1


def test_blocks_of_a_cpu_fit_its_cache() -> None:
    assert block_pixels(torch.device("cpu"), 1) == block_pixels(torch.device("cpu"), 7) == 4096


def test_channels_lie_last_in_memory() -> None:
    first, second = torch.rand(2, 3, 4, 5), torch.rand(2, 1, 4, 5)
    both = concatenate_channels([first, second])
    assert torch.equal(both, torch.cat((first, second), dim=1))
    assert both.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("sign", [-1, 1, 0])
def test_half_plane_pool_is_a_shift_and_a_pool(sign: int) -> None:
    x = torch.rand(2, 3, 6, 8) + 0.1
    x = x - 0.6 if sign == 0 else x * sign
    expected = F.max_pool2d(shift_down(x, 1), 2)
    assert torch.equal(half_plane_pool(x), expected)
    assert torch.equal(half_plane_pool(x, margin=2), with_margin(expected, 2))


def test_half_plane_pool_looks_at_no_later_row() -> None:
    x = torch.rand(1, 1, 8, 4, requires_grad=True)
    for row in range(4):
        (gradient,) = torch.autograd.grad(half_plane_pool(x)[..., row, :].sum(), x)
        assert not gradient[..., 2 * row + 1 :, :].any()
        assert gradient[..., : 2 * row + 1, :].any()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("margin", [0, 1, 2])
def test_leaky_relu_below_zero_rows(margin: int, memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64).contiguous(memory_format=memory_format)
    result = leaky_relu_below(x.clone(), 0.1, margin)
    assert torch.equal(result, with_margin(F.leaky_relu(x, 0.1), margin))
    assert result.is_contiguous(memory_format=memory_format)
    # In place where there is no margin: the argument must not be a leaf.
    assert torch.autograd.gradcheck(lambda y: leaky_relu_below(y * 1, 0.1, margin), x.requires_grad_())


@pytest.mark.parametrize(("num_heads", "pixels"), [(1, 2**17), (2, 2**17), (3, 87381), (8, 2**15)])
def test_heads_share_the_blocks_of_a_gpu(num_heads: int, pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "like_a_gpu", lambda device: True)
    assert block_pixels(torch.device("cpu"), num_heads) == pixels


def test_compiled_blocks_are_larger_and_pads_are_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 3, 4, 5)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert block_pixels(torch.device("cpu"), 1) == block_pixels(torch.device("cpu"), 7) == 2**14
    monkeypatch.setattr(blind_spot._LeakyReLUBelow, "apply", None)
    assert torch.equal(leaky_relu_below(x.clone(), 0.1, 2), with_margin(F.leaky_relu(x, 0.1), 2))


@pytest.mark.parametrize(("shifts", "compiling", "at_once"), [
    ((0, 1, 2), False, True), ((1, 3), False, True), ((0, 1, 2), True, False), ((0, 1, 3), False, False),
    ((2,), False, False), ((2, 2), False, False), ((3, 1), False, False),
])  # fmt: skip
def test_equally_spaced_shifts_are_summed_at_once(
    shifts: tuple[int, ...], compiling: bool, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then no shift is summed by itself; and the result is channels last in memory."""
    calls = []
    original = blind_spot.shift_outwards
    monkeypatch.setattr(blind_spot, "shift_outwards", lambda *given: calls.append(given) or original(*given))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    parts = upright(margin=4)
    with torch.no_grad():
        sums = sums_of_shifts(parts, shifts, 4)
    assert len(calls) == (0 if at_once else len(shifts))
    assert torch.equal(sums, torch.cat([total(original(parts, shift, 4)) for shift in shifts]))
    assert not at_once or sums.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("margin", [1, 2, 3])
def test_blocks_have_at_least_four_margins_of_rows(margin: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what they share is little; otherwise as many rows as pixels allow, and one at least."""
    seen: list[torch.Size] = []

    def noted(given: Sequence[torch.Tensor]) -> torch.Tensor:
        seen.append(given[1].shape)
        return given[1][None]

    monkeypatch.setattr(blind_spot, "block_pixels", lambda device, num_heads: 47)
    for with_margins, rows in ((margin, max(5, 4 * margin)), (0, 5)):
        seen.clear()
        parts = upright(with_margins, batch=2, height=33, width=8)
        in_blocks(parts, with_margins, noted)
        assert [shape[0] for shape in seen[:2]] == [1, 1]
        heights = [shape[2] for shape in seen[: len(seen) // 2]]
        assert heights[:-1] == [rows] * (33 // rows) and sum(heights) == 33


def test_a_row_of_more_pixels_than_a_block_is_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blind_spot, "block_pixels", lambda device, num_heads: 7)
    parts = upright(0, batch=1, height=3, width=8)
    seen = []
    in_blocks(parts, 0, lambda given: seen.append(given[1].shape[2]) or given[1][None])
    assert seen == [1, 1, 1]


def test_without_a_margin_the_argument_is_overwritten() -> None:
    x = torch.randn(1, 2, 3, 4)
    assert leaky_relu_below(x, 0.1, 0).data_ptr() == x.data_ptr()
    before = x.clone()
    leaky_relu_below(x, 0.1, 1)
    assert torch.equal(x, before)


def test_what_fits_one_block_is_not_copied() -> None:
    result = torch.rand(2, 3, 1, 5, 8)
    assert in_blocks(upright(margin=1), 1, lambda parts: result) is result
