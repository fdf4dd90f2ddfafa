"""Brightness and colour apart."""

import pytest
import torch

from atbsn.ops.luma import scale_apart

DIFFERENCE = torch.tensor([20.0, -10.0, -20.0]).view(3, 1, 1).expand(2, 3, 4, 5)
LUMA = 0.299 * 20 - 0.587 * 10 - 0.114 * 20


def test_luma_is_what_jpeg_calls_so() -> None:
    only = scale_apart(DIFFERENCE, 1, 0)
    torch.testing.assert_close(only, torch.full_like(only, LUMA))
    torch.testing.assert_close(scale_apart(DIFFERENCE, 0, 1), DIFFERENCE - LUMA)


def test_a_grey_difference_has_no_colour() -> None:
    grey = torch.full((1, 3, 2, 2), 8.0)
    torch.testing.assert_close(scale_apart(grey, 0.25, 0.75), grey / 4)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 2.0])
def test_both_alike_scale_it(strength: float) -> None:
    torch.testing.assert_close(scale_apart(DIFFERENCE, strength, strength), strength * DIFFERENCE)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(channels: int) -> None:
    same = torch.full((1, channels, 2, 2), 6.0)
    torch.testing.assert_close(scale_apart(same, 0.5, 0), same / 2)
    torch.testing.assert_close(scale_apart(same, 0, 1), torch.zeros_like(same))


@pytest.mark.parametrize(("luma", "colour"), [(0.25, 0.75), (1.0, 0.5), (0.5, 1.0), (2.0, -1.0)])
@pytest.mark.parametrize("weights", [(1.0,), (0.5, 0.5), (0.299, 0.587, 0.114), (0.25,) * 4])
def test_each_by_its_factor(weights: tuple[float, ...], luma: float, colour: float) -> None:
    """Of any number of channels and pictures; the argument stays what it is."""
    difference = torch.randn(2, 3, len(weights), 4, 5, generator=torch.Generator().manual_seed(0))
    before = difference.clone()
    found = scale_apart(difference, luma, colour)
    y = sum(weight * difference[:, :, channel] for channel, weight in enumerate(weights))
    for channel in range(len(weights)):
        torch.testing.assert_close(found[:, :, channel], luma * y + colour * (difference[:, :, channel] - y))
    assert torch.equal(difference, before)


def test_a_difference_that_stays_is_not_copied() -> None:
    assert scale_apart(DIFFERENCE, 1, 1) is DIFFERENCE
