"""Moments of clipped Gaussian noise against numerical integration, and the levels that are found back from them."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from atbsn.noise.clipping import interpolate, moments_after_clipping, unclipped_levels


def integrated(mean: float, deviation: float) -> tuple[float, float]:
    """Mean and deviation of clipped Gaussian noise, as means over 200,000 quantiles."""
    x = norm.ppf((np.arange(200_000) + 0.5) / 200_000, loc=mean, scale=deviation).clip(0, 255)
    return float(x.mean()), float(x.std())


@pytest.mark.parametrize("mean", [-30.0, 0.0, 7.0, 128.0, 240.0, 255.0, 300.0])
@pytest.mark.parametrize("deviation", [0.5, 20.0, 150.0])
def test_moments_are_those_of_the_clipped_distribution(mean: float, deviation: float) -> None:
    found = moments_after_clipping(torch.tensor([mean]).double(), torch.tensor([deviation]).double())
    assert [float(each) for each in found] == pytest.approx(integrated(mean, deviation), abs=5e-3)


def test_without_noise_the_moments_are_the_value_and_0() -> None:
    values = torch.tensor([0.0, 100.0, 255.0]).double()
    mean, deviation = moments_after_clipping(values, torch.zeros(3).double())
    torch.testing.assert_close(mean, values, atol=1e-5, rtol=0)
    assert deviation.max() < 1e-3 and deviation.isfinite().all()


def test_values_between_the_points_lie_on_straight_lines() -> None:
    values = torch.tensor([[0.0, 10.0, 40.0], [5.0, 5.0, -5.0]])
    x = torch.tensor([[-9.0, 0.0, 51.0, 127.5, 204.0, 255.0, 300.0]]).expand(2, -1)
    expected = torch.tensor([[0.0, 0, 4, 10, 28, 40, 40], [5.0, 5, 5, 5, -1, -5, -5]])
    torch.testing.assert_close(interpolate(values, x), expected, atol=1e-5, rtol=0)


def test_levels_before_clipping_give_the_seen_levels_after_it() -> None:
    """A curve that rises and one that is flat, at the ends and in the middle."""
    seen = torch.stack([torch.linspace(6, 30, 33), torch.full((33,), 12.0)])
    found = unclipped_levels(seen)
    assert found.shape == seen.shape and found.dtype == seen.dtype
    means = np.linspace(0, 255, 33)
    for row in range(2):
        for place in (0, 1, 5, 16, 31, 32):
            mean, deviation = integrated(float(means[place]), float(found[row, place]))
            assert deviation == pytest.approx(np.interp(mean, means, seen[row].double().numpy()), rel=2e-3)
    torch.testing.assert_close(found[1, 8:25], seen[1, 8:25], rtol=1e-4, atol=0)
    assert found[1, 0] == pytest.approx(float(found[1, -1]), rel=1e-4)


def test_a_level_that_no_noise_can_have_after_clipping_is_given_up_at_four_times() -> None:
    """However strong noise around black is, one half of it is cut off; the curve asks for what nothing can have."""
    seen = torch.linspace(200, 100, 17)[None]
    found = unclipped_levels(seen)
    assert found.max() == pytest.approx(4 * 200, rel=1e-3)


def test_each_step_halves_the_interval_from_0_to_four_times_the_largest_level() -> None:
    """Its middle is 20 at first, then too strong, then, at exactly the level, not too strong."""
    seen = torch.full((1, 17), 10.0)
    assert [float(unclipped_levels(seen, steps)[0, 8]) for steps in range(4)] == [20, 10, 15, 12.5]
