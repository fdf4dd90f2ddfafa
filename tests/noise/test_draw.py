"""One number a picture, drawn by the law that the function is named after."""

import math

import pytest
import torch

from atbsn.noise.draw import chance, log_uniform, normal, one_of, uniform

BATCH = torch.empty(20000, 2, 1, 1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_there_is_one_number_a_picture() -> None:
    for drawn in (
        uniform(BATCH, 0, 1),
        log_uniform(BATCH, 1, 2),
        normal(BATCH),
        chance(BATCH, 0.5),
        one_of(BATCH, (1, 1)),
    ):
        assert drawn.shape == (20000, 1, 1, 1) and len(drawn.unique()) > 1


def test_uniform_numbers_fill_their_range_evenly() -> None:
    drawn = uniform(BATCH, -3, 5)
    assert -3 <= drawn.min() < -2.99 and 4.99 < drawn.max() < 5
    assert (drawn.flatten().quantile(torch.tensor([0.25, 0.5, 0.75])) - torch.tensor([-1.0, 1, 3])).abs().max() < 0.15


def test_log_uniform_numbers_are_as_often_in_each_octave() -> None:
    drawn = log_uniform(BATCH, 0.25, 4).log2().flatten()
    assert -2 <= drawn.min() < -1.99 and 1.99 < drawn.max() < 2 + 1e-5
    assert (drawn.floor().long() + 2).clamp(max=3).bincount().div(20000).tolist() == pytest.approx(
        [0.25] * 4, abs=0.015
    )


def test_normal_numbers_have_the_moments_of_a_gaussian() -> None:
    drawn = normal(BATCH)
    moments = [float((drawn**power).mean()) for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.15)
    assert float((drawn.abs() < 1).float().mean()) == pytest.approx(math.erf(2**-0.5), abs=0.01)


def test_a_chance_is_a_share_and_0_and_1_are_sure() -> None:
    assert float(chance(BATCH, 0.3).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert not chance(BATCH, 0).any() and chance(BATCH, 1).all()


def test_shares_need_not_sum_to_one_and_a_share_of_0_is_never_drawn() -> None:
    drawn = one_of(BATCH, (0, 6, 2, 0, 4)).flatten().bincount(minlength=5)
    assert (drawn / len(BATCH)).tolist() == pytest.approx([0, 1 / 2, 1 / 6, 0, 1 / 3], abs=0.015)
    assert drawn[0] == drawn[3] == 0
