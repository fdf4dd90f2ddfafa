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
