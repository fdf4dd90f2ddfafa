import pytest
import torch
from torch.nn import functional as F

from atbsn.ops.blind_spot import blind_spot_shift, half_plane_pool, rotate, shift_outwards, unrotate
from atbsn.utils.errors import UserError


@pytest.mark.parametrize(("k", "shift"), [(0, 0), (1, 1), (3, 2), (5, 3), (7, 4), (9, 5), (11, 6), (13, 7)])
def test_shift_of_a_blind_spot(k, shift):
    assert blind_spot_shift(k) == shift


@pytest.mark.parametrize("k", [-1, -2, 2, 4, 10, True, 3.0, "3", None])
def test_no_blind_spot(k):
    with pytest.raises(UserError, match=r"odd number; use 0, 1, 3"):
        blind_spot_shift(k)


def test_rotations_are_clockwise_quarter_turns():
    x = torch.rand(2, 3, 4, 7)
    for turns, turned in enumerate(rotate(x)):
        assert torch.equal(turned, torch.rot90(x, -turns, (2, 3)))


def test_unrotate_turns_all_upright():
    x = torch.rand(2, 3, 4, 7)
    assert all(torch.equal(part, x) for part in unrotate(rotate(x)))


def shift_down(x, rows):
    """The shift as the paper has it, in a part's own rotation: zero rows in on top, the last ones out."""
    return F.pad(x, (0, 0, rows, 0))[:, :, : x.shape[2]]


@pytest.mark.parametrize("shift", [0, 1, 2, 5, 6, 9])
def test_shifting_outwards_is_shifting_down_before_unrotating(shift):
    parts = rotate(torch.rand(2, 3, 4, 7))
    expected = unrotate([shift_down(part, shift) for part in parts])
    for shifted, part in zip(shift_outwards(unrotate(parts), shift), expected, strict=True):
        assert torch.equal(shifted, part)


@pytest.mark.parametrize("sign", [-1, 1, 0])
def test_half_plane_pool_is_a_shift_and_a_pool(sign):
    x = torch.rand(2, 3, 6, 8) + 0.1
    x = x - 0.6 if sign == 0 else x * sign
    assert torch.equal(half_plane_pool(x), F.max_pool2d(shift_down(x, 1), 2))


def test_half_plane_pool_looks_at_no_later_row():
    x = torch.rand(1, 1, 8, 4, requires_grad=True)
    for row in range(4):
        (gradient,) = torch.autograd.grad(half_plane_pool(x)[..., row, :].sum(), x)
        assert not gradient[..., 2 * row + 1 :, :].any()
        assert gradient[..., : 2 * row + 1, :].any()
