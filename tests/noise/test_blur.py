"""Gaussian blur of channels."""

import pytest
import torch

from atbsn.noise.blur import gaussian_blur


def test_blur_keeps_the_mean_and_has_the_standard_deviation_it_is_asked_for() -> None:
    impulse = torch.zeros(1, 2, 41, 41)
    impulse[..., 20, 20] = 1
    blurred = gaussian_blur(impulse, torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(blurred[:, 0], impulse[:, 0], atol=1e-6, rtol=0)
    offsets = torch.arange(41.0) - 20
    assert (blurred[0, 1].sum(dim=0) * offsets.square()).sum() == pytest.approx(1.0, rel=0.02)
