"""Flat places without noise do not count, in any estimate, unless the whole picture is clean."""

import numpy as np
import pytest
import torch
from skimage import data

from atbsn.noise import estimate, from_residual
from atbsn.noise.level import noise_before_and_after, noise_level, sample_blocks
from atbsn.noise.sampling import REACH
from atbsn.noise.usable import clipped_channels, without_noise

LEVEL = 15.0
SKIES = [(255, 247, 243), (180, 180, 180)]
"""A blown sky as a camera writes it, and a flat colour that somebody put in."""


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Of level 15, correlated: 0.45 from pixel to pixel."""
    white = torch.randn(1, 3, shape[0] + 2, shape[1] + 2, generator=torch.Generator().manual_seed(seed))
    line = torch.tensor([0.25, 1, 0.25])
    field = torch.nn.functional.conv2d(white.transpose(0, 1), torch.outer(line, line)[None, None])[:, 0]
    return (LEVEL * field / field.std()).permute(1, 2, 0).numpy()


def blown(sky: tuple[int, int, int], share: float, deviation: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """A photograph with noise whose upper part is a sky without any; and the same without noise."""
    clean = data.coffee()[:256, :256].astype(float)
    noisy = clean + noise(clean.shape, 1)
    rows = int(len(clean) * share)
    clean[:rows] = sky
    noisy[:rows] = sky + np.random.default_rng(3).normal(0, deviation, (rows, clean.shape[1], 3))
    return tuple(np.clip(np.round(x), 0, 255).astype(np.uint8) for x in (noisy, clean))


@pytest.mark.parametrize("sky", SKIES)
@pytest.mark.parametrize("share", [0.2, 0.4])
def test_no_estimate_counts_a_sky_without_noise(sky: tuple[int, int, int], share: float) -> None:
    noisy, clean = blown(sky, share)
    assert noise_level(noisy) == pytest.approx(LEVEL, rel=0.4)
    before, after = noise_before_and_after(sample_blocks(noisy), sample_blocks(clean))
    assert before == pytest.approx(LEVEL, rel=0.25) and after < 2  # what is flat is dark here, where black cuts it off
    for found in (estimate([noisy]), from_residual([(noisy, clean)])):
        assert found.correlation.diagonal()[REACH, REACH + 1].mean() == pytest.approx(0.44, abs=0.1)
        levels = found.level(torch.full((1, 3, 1, 1), 60.0))  # brighter than that it is textured where the sky is not
        assert levels.mean() == pytest.approx(LEVEL, rel=0.25)


def test_one_blown_picture_among_others_spoils_nothing() -> None:
    scene = data.astronaut()[:256, :256].astype(float)
    others = [np.clip(np.round(scene + noise(scene.shape, seed)), 0, 255).astype(np.uint8) for seed in (5, 6)]
    alone, together = estimate(others), estimate([*others, blown(SKIES[0], 0.4)[0]])
    for intensity, most in ((128.0, 0.15), (240.0, 0.45)):
        at = torch.full((1, 3, 1, 1), intensity)
        assert (together.level(at) / alone.level(at) - 1).abs().max() < most
    assert (together.correlation - alone.correlation)[..., REACH, REACH + 1].abs().max() < 0.06


def test_a_clean_picture_stays_clean() -> None:
    """A sky without noise over textured ground: the sky tells that there is no noise."""
    ground = data.grass()[:192, :384, None].repeat(3, axis=2).astype(float)
    sky = np.broadcast_to(np.linspace(190, 230, 192)[:, None, None], (192, 384, 3))
    clean = np.round(np.concatenate([sky, ground])).astype(np.uint8)
    before, _ = noise_before_and_after(sample_blocks(clean), sample_blocks(clean))
    assert before < 1


def test_a_channel_at_white_takes_the_others_with_it_but_not_one_at_black() -> None:
    blocks = torch.full((4, 3, 256), 100.0)
    blocks[0, 0] = 255
    blocks[1, 2] = 0
    blocks[2, 1, :200] = 255  # less than nine tenths
    expected = [[True, True, True], [False, False, True], [False] * 3, [False] * 3]
    assert clipped_channels(blocks).tolist() == expected


def test_noise_that_vanishes_in_the_dark_is_the_cameras() -> None:
    """And so is weak noise beside none: only what is brighter than strong noise, and far from it, is an exception."""
    alike = torch.linspace(0.9, 1.1, 100)
    variance = torch.cat([0.2 * alike, 200 * alike])
    dark_first = torch.tensor([20.0, 150.0]).repeat_interleave(100)
    assert not without_noise(variance, dark_first).any()
    assert without_noise(variance, dark_first.flip(0)).tolist() == [True] * 100 + [False] * 100
    weak = torch.cat([0.2 * alike, 1.5 * alike])
    assert not without_noise(weak, dark_first.flip(0)).any()
    between = torch.cat([variance, torch.full((10,), 2.0)])
    assert not without_noise(between, torch.cat([dark_first.flip(0), torch.full((10,), 150.0)])).any()


def test_texture_is_no_noise() -> None:
    """Its strength differs from block to block."""
    variance = torch.cat([torch.full((100,), 0.2), 30 * torch.exp(torch.linspace(-1.5, 1.5, 100))])
    assert not without_noise(variance, torch.tensor([150.0, 140.0]).repeat_interleave(100)).any()


def test_a_channel_is_clipped_at_black_and_at_white_and_nowhere_else() -> None:
    blocks = torch.tensor([[0, 1, 254], [254, 254, 255], [1, 254, 128]])[..., None].expand(3, 3, 256).float()
    assert clipped_channels(blocks).tolist() == [[True, False, False], [True] * 3, [False] * 3]


def test_a_channel_is_clipped_from_nine_tenths_of_its_pixels_on() -> None:
    """Of 256 pixels, 231."""
    for end in (0.0, 255.0):
        blocks = torch.full((2, 1, 256), 100.0)
        blocks[0, 0, :230] = blocks[1, 0, :231] = end
        assert clipped_channels(blocks).tolist() == [[False], [True]]


def exceptions(quiet: float, loud: float, num_loud: int = 100, where: tuple[float, float] = (60.0, 70.0)) -> int:
    """How many of 100 blocks of variance ``quiet`` count as blocks without noise beside those of variance ``loud``.

    ``where``: intensities of the loud ones and of the quiet ones.
    """
    variance = torch.cat([torch.full((100,), quiet), torch.full((num_loud,), loud)])
    intensity = torch.cat([torch.full((100,), where[1]), torch.full((num_loud,), where[0])])
    found = without_noise(variance, intensity)
    assert not found[100:].any()
    return int(found.sum())


def test_where_an_exception_begins() -> None:
    """Rounding has a variance of 1/12; five times that is no noise. Noise is three times as strong, in 24 blocks."""
    assert exceptions(0.39, 30.0) == 100 and exceptions(0.43, 30.0) == 0
    assert exceptions(0.2, 3.7) == 100 and exceptions(0.2, 3.5) == 0
    assert exceptions(0.2, 30.0, num_loud=24) == 100 and exceptions(0.2, 30.0, num_loud=23) == 0


def test_what_is_brighter_is_told_in_steps_of_16() -> None:
    """Quiet blocks are an exception in the same sixteenth of the range as noise and above it, not below."""
    assert exceptions(0.2, 30.0, where=(110.0, 97.0)) == 100
    assert exceptions(0.2, 30.0, where=(97.0, 95.0)) == 0
    assert exceptions(0.2, 30.0, where=(95.0, 97.0)) == 100
    assert exceptions(0.2, 30.0, where=(-5.0, 2.0)) == 100  # means of floats may lie a little outside
    assert exceptions(0.2, 30.0, where=(255.0, 257.0)) == 100
    assert exceptions(0.2, 30.0, where=(1.0, 250.0)) == 100
    assert exceptions(0.2, 30.0, where=(20.0, 10.0)) == exceptions(0.2, 30.0, where=(241.0, 239.5)) == 0


@pytest.mark.parametrize(("rise", "count"), [(0.28, 100), (0.32, 0)])
def test_noise_is_about_as_strong_in_all_blocks(rise: float, count: int) -> None:
    """Its log variance rises by 0.3 at most from the 5 % to the 30 % quantile, whatever the others are."""
    log_variance = torch.linspace(4.0, 4.0 + 4 * rise, 101)
    variance = torch.cat([torch.full((100,), 0.2), log_variance.exp()])
    assert int(without_noise(variance, torch.full((201,), 90.0)).sum()) == count


@pytest.mark.parametrize(("between", "count"), [(5, 100), (6, 0)])
def test_hardly_any_block_lies_between(between: int, count: int) -> None:
    """At most 5 % of the number of quiet ones; what lies between at other intensities does not matter."""
    variance = torch.cat([torch.full((100,), 0.2), torch.full((300,), 30.0), torch.full((between,), 3.0)])
    elsewhere = torch.full((50,), 3.0)
    intensity = torch.cat([torch.full((400 + between,), 90.0), torch.full((50,), 40.0)])
    assert int(without_noise(torch.cat([variance, elsewhere]), intensity).sum()) == count
