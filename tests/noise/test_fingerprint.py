"""The fingerprint of noises whose statistics are known."""

import math

import pytest
import torch

from atbsn.noise.fingerprint import Fingerprint, cross_spectrum, radius


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


def wave(down: int, along: int, shifts: tuple[float, float, float] = (0, 0, 0), side: int = 64) -> torch.Tensor:
    """(3, side, side): one cosine of so many periods in 64 pixels, with a phase in each channel."""
    rows, columns = torch.meshgrid(torch.arange(1.0 * side), torch.arange(1.0 * side), indexing="ij")
    angle = 2 * math.pi * (down * rows + along * columns) / 64
    return torch.stack([torch.cos(angle + shift) for shift in shifts])


WINDOW = 2 / 3 + math.cos(2 * math.pi / 64) / 3
"""Factor on the correlation of neighbours: a Hann window takes 1/6 of a wave's power to each next frequency."""


@pytest.mark.parametrize(
    ("down", "along", "band"), [(0, 9, 0), (7, 7, 0), (0, 17, 1), (12, 16, 1), (26, 0, 2), (20, 20, 2), (30, 20, 3)]
)
def test_a_wave_is_measured_exactly(down: int, along: int, band: int) -> None:
    """Level: amplitude / sqrt(2); correlations: cosines of its phase from pixel to pixel; power: all in one band."""
    amplitudes = torch.tensor([1.0, 2, 5]).view(3, 1, 1)
    noise = amplitudes * wave(down, along, (0, 1, 2.5))
    found = Fingerprint.of([(noise, torch.zeros_like(noise))])
    assert found.level == pytest.approx([value / 2**0.5 for value in (1, 2, 5)], rel=1e-3)
    across, below = (math.cos(2 * math.pi * count / 64) * WINDOW for count in (along, down))
    assert found.along == pytest.approx([across] * 3, abs=1e-3)
    assert found.down == pytest.approx([below] * 3, abs=1e-3)
    assert found.diagonal == pytest.approx([across * below] * 3, abs=1e-3)
    assert found.channels == pytest.approx([math.cos(1), math.cos(1.5), math.cos(2.5)], abs=1e-3)
    assert found.power == pytest.approx([1.0 if number == band else 0.0 for number in range(4)], abs=1e-4)


def test_power_is_shared_by_bands_of_all_channels() -> None:
    noise = torch.cat([wave(0, 9)[:1] * 1, wave(26, 0)[:1] * 2, wave(30, 20)[:1] * 3])
    found = Fingerprint.of([(noise, torch.zeros_like(noise))])
    assert found.power == pytest.approx([1 / 14, 0, 4 / 14, 9 / 14], abs=1e-3)


def test_waves_longer_than_12_pixels_are_not_noise() -> None:
    """BANDS[0] is 0.08 cycles a pixel: 5.1 periods in a block."""
    noise = wave(0, 20) + 3 * wave(2, 3) + 7
    found = Fingerprint.of([(noise, torch.full_like(noise, 100.0))])
    assert found.level == pytest.approx([0.5**0.5] * 3, rel=1e-3)
    assert found.by_intensity[3] == pytest.approx(0.5**0.5, rel=1e-3)


def test_blocks_count_alike_and_what_is_over_does_not_count() -> None:
    """One block of amplitude 1, and three of amplitude 3 beside strips that no block fits into."""
    one, three = wave(0, 20), torch.full((1, 3, 70, 230), 1e4)
    three[..., :64, :192] = 3 * wave(0, 20, side=192)[:, :64]
    found = Fingerprint.of([(one, torch.zeros_like(one)), (three, torch.zeros_like(three))])
    assert found.level == pytest.approx([((1 + 3 * 9) / 4 / 2) ** 0.5] * 3, rel=1e-3)
    batch = torch.stack([one, 3 * one, 3 * one, 3 * one])
    assert Fingerprint.of([(batch, torch.zeros_like(batch))]).level == pytest.approx(found.level, rel=1e-4)


def test_levels_are_sorted_by_the_clean_value_in_steps_of_32() -> None:
    """Columns of one value, one period of the wave each; values beyond black and white belong to the last interval."""
    values = torch.tensor([-20, 0, 31.9, 40, 63.9, 96, 100, 127.9, 160, 191.9, 224, 255, 300, 40, 40, 40])
    clean = values.repeat_interleave(4).expand(3, 64, 64)
    found = Fingerprint.of([(wave(0, 16), clean)])
    seen = [value == value for value in found.by_intensity]
    assert seen == [True, True, False, True, False, True, False, True]
    assert [value for value in found.by_intensity if value == value] == pytest.approx([0.5**0.5] * 5, rel=1e-3)


def test_cross_spectra_are_power_a_pixel() -> None:
    """Parseval: their mean over the frequencies is the mean square; the mean of a block does not count."""
    blocks = torch.randn(60, 3, 64, 64, generator=torch.Generator().manual_seed(0)) + 50
    found = cross_spectrum(blocks) / 60
    assert found.shape == (3, 3, 64, 64)
    assert found.diagonal().real.mean((0, 1)).tolist() == pytest.approx([1] * 3, rel=0.02)
    torch.testing.assert_close(found, found.transpose(0, 1).conj())
    grouped = cross_spectrum(blocks[:4].view(2, 2, 3, 64, 64))
    torch.testing.assert_close(grouped[1], cross_spectrum(blocks[2:4]))


def test_the_radius_is_in_cycles_a_pixel() -> None:
    found = radius(torch.device("cpu"))
    assert found.shape == (64, 64) and found[0, 0] == 0
    assert float(found[3, 60]) == pytest.approx(5 / 64) and float(found[32, 32]) == pytest.approx(0.5**0.5)


def test_a_side_of_64_pixels_is_enough() -> None:
    for size in ((64, 200), (200, 64)):
        Fingerprint.of([(torch.ones(3, *size), torch.zeros(3, *size))])
    with pytest.raises(ValueError, match="64x63 pixels: at least 64x64 are needed"):
        Fingerprint.of([(torch.zeros(3, 64, 63), torch.zeros(3, 64, 63))])
