"""The fingerprint of noises whose statistics are known."""

import pytest
import torch

from atbsn.noise.fingerprint import Fingerprint


def test_white_noise_has_no_correlation_and_its_level() -> None:
    torch.manual_seed(0)
    noise = torch.randn(4, 3, 256, 256) * torch.tensor([2.0, 4.0, 8.0]).view(3, 1, 1)
    found = Fingerprint.of([(noise, torch.full_like(noise, 100.0))])
    # 2 % of the frequencies are below the lowest band.
    assert found.level == pytest.approx((2, 4, 8), rel=0.03)
    for values in (found.along, found.down, found.diagonal, found.channels):
        assert values == pytest.approx((0, 0, 0), abs=0.03)
    assert sum(found.power) == pytest.approx(1)
    assert found.by_intensity[3] == pytest.approx(((4 + 16 + 64) / 3) ** 0.5, rel=0.03)
    assert found.by_intensity[0] != found.by_intensity[0]  # nothing was seen there


def test_correlations_are_found_where_they_are() -> None:
    torch.manual_seed(0)
    white = torch.randn(4, 3, 256, 257)
    noise = (white[..., 1:] + white[..., :-1]) / 2**0.5
    noise[:, 1] = (noise[:, 0] + noise[:, 1]) / 2**0.5
    found = Fingerprint.of([(noise, torch.zeros_like(noise))])
    # What is below the lowest band is left out, which takes about .04 off every correlation here.
    assert found.along == pytest.approx((0.48, 0.48, 0.48), abs=0.03)
    assert found.down == pytest.approx((-0.045, -0.045, -0.045), abs=0.03)
    assert found.channels == pytest.approx((0.707, 0, 0), abs=0.04)


def test_another_light_is_not_noise() -> None:
    noise = torch.full((1, 3, 128, 128), 7.0) + torch.linspace(0, 3, 128)
    assert max(Fingerprint.of([(noise, torch.zeros_like(noise))]).level) < 0.2


def test_pictures_of_many_sizes_and_none_at_all() -> None:
    torch.manual_seed(0)
    sizes = ((64, 64), (70, 200))
    pairs = [(torch.randn(3, *size), torch.full((3, *size), 200.0)) for size in sizes]
    assert Fingerprint.of(pairs).level == pytest.approx((1, 1, 1), rel=0.1)
    with pytest.raises(ValueError, match="no pictures"):
        Fingerprint.of([])
    with pytest.raises(ValueError, match="63x64"):
        Fingerprint.of([(torch.zeros(3, 63, 64), torch.zeros(3, 63, 64))])
