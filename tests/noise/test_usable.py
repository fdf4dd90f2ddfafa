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
def test_no_estimate_counts_a_sky_without_noise(sky, share):
    noisy, clean = blown(sky, share)
    assert noise_level(noisy) == pytest.approx(LEVEL, rel=0.4)
    before, after = noise_before_and_after(sample_blocks(noisy), sample_blocks(clean))
    assert before == pytest.approx(LEVEL, rel=0.25) and after < 2  # what is flat is dark here, where black cuts it off
    for found in (estimate([noisy]), from_residual([(noisy, clean)])):
        assert found.correlation.diagonal()[REACH, REACH + 1].mean() == pytest.approx(0.44, abs=0.1)
        levels = found.level(torch.full((1, 3, 1, 1), 60.0))  # brighter than that it is textured where the sky is not
        assert levels.mean() == pytest.approx(LEVEL, rel=0.25)


def test_one_blown_picture_among_others_spoils_nothing():
    scene = data.astronaut()[:256, :256].astype(float)
    others = [np.clip(np.round(scene + noise(scene.shape, seed)), 0, 255).astype(np.uint8) for seed in (5, 6)]
    alone, together = estimate(others), estimate([*others, blown(SKIES[0], 0.4)[0]])
    for intensity, most in ((128.0, 0.15), (240.0, 0.45)):
        at = torch.full((1, 3, 1, 1), intensity)
        assert (together.level(at) / alone.level(at) - 1).abs().max() < most
    assert (together.correlation - alone.correlation)[..., REACH, REACH + 1].abs().max() < 0.06


def test_a_clean_picture_stays_clean():
    """A sky without noise over textured ground: the sky tells that there is no noise."""
    ground = data.grass()[:192, :384, None].repeat(3, axis=2).astype(float)
    sky = np.broadcast_to(np.linspace(190, 230, 192)[:, None, None], (192, 384, 3))
    clean = np.round(np.concatenate([sky, ground])).astype(np.uint8)
    before, _ = noise_before_and_after(sample_blocks(clean), sample_blocks(clean))
    assert before < 1


def test_a_channel_at_white_takes_the_others_with_it_but_not_one_at_black():
    blocks = torch.full((4, 3, 256), 100.0)
    blocks[0, 0] = 255
    blocks[1, 2] = 0
    blocks[2, 1, :200] = 255  # less than nine tenths
    expected = [[True, True, True], [False, False, True], [False] * 3, [False] * 3]
    assert clipped_channels(blocks).tolist() == expected


def test_noise_that_vanishes_in_the_dark_is_the_cameras():
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


def test_texture_is_no_noise():
    """Its strength differs from block to block."""
    variance = torch.cat([torch.full((100,), 0.2), 30 * torch.exp(torch.linspace(-1.5, 1.5, 100))])
    assert not without_noise(variance, torch.tensor([150.0, 140.0]).repeat_interleave(100)).any()


def test_a_channel_is_clipped_at_black_and_at_white_and_nowhere_else():
    blocks = torch.tensor([[0, 1, 254], [254, 254, 255], [1, 254, 128]])[..., None].expand(3, 3, 256).float()
    assert clipped_channels(blocks).tolist() == [[True, False, False], [True] * 3, [False] * 3]
