"""Cameras drawn at random: what they keep, what they add, and that the parts are what they are named after."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from atbsn.noise.camera import (
    RandomCamera,
    bayer_pattern,
    demosaic_bilinear,
    demosaic_edges,
    demosaic_malvar,
    gaussian_blur,
    regular_pattern,
)
from atbsn.noise.jpeg import jpeg, to_rgb, to_ycbcr


def picture(batch: int = 2, side: int = 64) -> torch.Tensor:
    """Smooth colours with an edge."""
    row = torch.linspace(20, 230, side)
    rgb = torch.stack([row.expand(side, side), row.expand(side, side).T, 255 - row.expand(side, side)])
    rgb[:, :, side // 2 :] *= 0.6
    return rgb.expand(batch, 3, side, side).contiguous()


@pytest.mark.parametrize("demosaic", [demosaic_bilinear, demosaic_edges, demosaic_malvar])
def test_demosaicing_gives_back_a_flat_colour_and_the_pixels_that_were_measured(demosaic) -> None:
    torch.manual_seed(0)
    flat = torch.rand(2, 3, 1, 1).expand(2, 3, 32, 32).contiguous()
    bayer = bayer_pattern(flat)
    assert bayer.sum(dim=1).eq(1).all()
    raw = (flat * bayer).sum(dim=1, keepdim=True)
    if demosaic is demosaic_bilinear:
        torch.testing.assert_close(demosaic(raw, bayer), flat, atol=1e-6, rtol=0)
    grey = torch.full((2, 1, 32, 32), 0.4)
    torch.testing.assert_close(demosaic(grey, bayer), torch.full((2, 3, 32, 32), 0.4), atol=1e-6, rtol=0)
    noise = torch.randn(2, 1, 32, 32)
    measured = demosaic(noise, bayer) * bayer
    torch.testing.assert_close(measured.sum(dim=1, keepdim=True), noise, atol=1e-5, rtol=0)


def test_malvar_has_the_published_weights() -> None:
    """Green at a red or blue pixel: 4/8 of itself, 2/8 of the greens beside, -1/8 of its own colour two away."""
    bayer = torch.zeros(1, 3, 16, 16)
    bayer[:, 0, 0::2, 0::2] = bayer[:, 2, 1::2, 1::2] = 1
    bayer[:, 1, 0::2, 1::2] = bayer[:, 1, 1::2, 0::2] = 1
    impulse = torch.zeros(1, 1, 16, 16)
    impulse[..., 8, 8] = 1
    result = demosaic_malvar(impulse, bayer)
    assert result[0, 1, 8, 8] == pytest.approx(4 / 8)
    assert result[0, 1, 8, 10] == pytest.approx(-1 / 8)
    assert result[0, 0, 8, 9] == pytest.approx(4 / 8)
    assert result[0, 0, 9, 9] == pytest.approx(2 / 8)


@pytest.mark.parametrize("quality", [75, 95])
@pytest.mark.parametrize("subsampled", [False, True])
def test_jpeg_is_what_an_encoder_does(quality: int, subsampled: bool) -> None:
    torch.manual_seed(0)
    rgb = (picture(1) + 12 * torch.randn(1, 3, 64, 64)).clamp(0, 255).round()
    buffer = io.BytesIO()
    array = rgb[0].permute(1, 2, 0).byte().numpy()
    Image.fromarray(array).save(buffer, "JPEG", quality=quality, subsampling=2 if subsampled else 0)
    reference = torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1)[None].float()
    ours = jpeg(rgb, torch.tensor([float(quality)]), torch.tensor([subsampled]))
    # An encoder rounds luma and colour differences to whole numbers first; ours does not.
    assert (ours - reference).abs().mean() < 2
    assert (ours - reference).square().mean() < 0.35 * (rgb - reference).square().mean()


def test_luma_and_colour_differences_turn_back() -> None:
    rgb = picture()
    torch.testing.assert_close(to_rgb(to_ycbcr(rgb)), rgb, atol=1e-3, rtol=0)
    grey = torch.full((1, 3, 4, 4), 77.0)
    torch.testing.assert_close(to_ycbcr(grey)[:, 1:], torch.zeros(1, 2, 4, 4), atol=1e-4, rtol=0)


def test_blur_keeps_the_mean_and_has_the_standard_deviation_it_is_asked_for() -> None:
    impulse = torch.zeros(1, 2, 41, 41)
    impulse[..., 20, 20] = 1
    blurred = gaussian_blur(impulse, torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(blurred[:, 0], impulse[:, 0], atol=1e-6, rtol=0)
    offsets = torch.arange(41.0) - 20
    assert (blurred[0, 1].sum(dim=0) * offsets.square()).sum() == pytest.approx(1.0, rel=0.02)


def test_a_batch_is_taken_by_different_cameras_and_the_noise_is_noise() -> None:
    torch.manual_seed(0)
    noisy, clean = RandomCamera()(picture(16))
    assert noisy.shape == clean.shape == (16, 3, 64, 64)
    assert noisy.min() >= 0 and noisy.max() <= 255 and clean.min() >= 0 and clean.max() <= 255
    assert torch.equal(noisy, noisy.round())
    levels = (noisy - clean).std(dim=(1, 2, 3))
    assert levels.max() > 4 * levels.min() > 0
    assert ((noisy - clean).mean(dim=(2, 3)).abs() < 0.35 * levels[:, None] + 0.6).all()


def test_all_is_drawn_from_torch_generator() -> None:
    camera, pictures = RandomCamera(), picture()
    torch.manual_seed(3)
    first = camera(pictures)
    other = camera(pictures)
    torch.manual_seed(3)
    again = camera(pictures)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_shot_noise_is_the_variance_of_white() -> None:
    """On three sensors without processing, raw variance a x + b: four times the a, twice the noise."""
    levels = []
    for shot in (2.5e-4, 1e-3):
        torch.manual_seed(5)
        camera = RandomCamera((shot, shot), processed=0, compressed=0, softened=0, demosaicing=(0, 0, 0, 1))
        noisy, clean = camera(torch.full((32, 3, 32, 32), 150.0))
        levels.append((noisy - clean).std(dim=(1, 2, 3)))
    ratio = (levels[1] / levels[0]).median()
    assert ratio == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("kind", range(4))
def test_every_demosaicing_can_be_chosen_alone(kind: int) -> None:
    """Neighbouring pixels of noise are correlated by every demosaicing, and by no demosaicing only by the colours."""
    torch.manual_seed(0)
    shares = [0.0] * 4
    shares[kind] = 1.0
    camera = RandomCamera((1e-3, 1e-3), processed=0, compressed=0, softened=0, demosaicing=shares)
    noisy, clean = camera(torch.full((16, 3, 64, 64), 140.0))
    green = (noisy - clean)[:, 1] - (noisy - clean)[:, 1].mean(dim=(1, 2), keepdim=True)
    correlation = (green[..., 1:] * green[..., :-1]).mean() / green.square().mean()
    assert correlation < 0.05 if kind == 3 else correlation > 0.15


def test_the_mean_picture_is_the_mean_of_many_noisy_ones() -> None:
    """In the dark, black cuts noise off and the tone curve bends it: the mean moves, and the target with it."""
    camera = RandomCamera((2e-2, 2e-2), processed=0, compressed=0, softened=0)
    dark = torch.full((64, 3, 32, 32), 25.0)
    torch.manual_seed(0)
    noisy, mean = camera(dark)
    torch.manual_seed(0)
    _, scene = RandomCamera((2e-2, 2e-2), processed=0, compressed=0, softened=0, target="scene")(dark)
    off_mean = (noisy - mean).mean(dim=(2, 3)).abs().mean()
    off_scene = (noisy - scene).mean(dim=(2, 3)).abs().mean()
    assert off_scene > 5 and off_mean < 0.3 * off_scene


@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
def test_black_and_white_pictures_have_black_and_white_noise(grey: float) -> None:
    torch.manual_seed(0)
    for made in RandomCamera(grey=grey, shot_noise=(1e-2, 1e-2), compressed=0.5)(picture(32, side=32)):
        equal = (made - made[:, :1]).abs().amax(dim=(1, 2, 3)) <= 1  # a JPEG's colours are rounded
        assert abs(equal.float().mean() - grey) < 0.25 and (0 < grey < 1) == bool(equal.any() and not equal.all())


def test_regular_patterns_are_regular_and_cover_a_part() -> None:
    torch.manual_seed(0)
    flat = torch.full((64, 3, 64, 64), -1.0)
    made = regular_pattern(flat)
    covered = (made != flat).all(dim=1)
    shares = covered.float().mean((1, 2))
    assert 0.3 < shares.mean() < 0.7 and ((shares > 0.1) & (shares < 0.9)).sum() > 20
    assert made[covered[:, None].expand_as(made)].min() >= 0 and made.max() <= 255
    quarters, inside = (x.unfold(1, 32, 32).unfold(2, 32, 32) for x in (made[:, 0], covered))
    quarters = quarters[inside.all(-1).all(-1)]
    waves = torch.fft.rfft2(quarters - quarters.mean((1, 2), keepdim=True)).abs().flatten(1).square()
    few = waves.topk(waves.shape[1] // 20).values.sum(1) / waves.sum(1)
    assert len(quarters) > 20 and few.min() > 0.7  # white noise has a fifth of its energy there


@pytest.mark.parametrize("patterned", [0.0, 0.5, 1.0])
def test_as_many_pictures_are_patterned_as_asked(patterned: float) -> None:
    torch.manual_seed(0)
    settings = {"softened": 0.0, "compressed": 0.0, "noiseless": 1.0, "patterned": patterned}
    _, clean = RandomCamera(**settings)(torch.full((64, 3, 64, 64), 90.0))
    flat = (clean - clean[..., :1, :1]).abs().amax((1, 2, 3)) < 0.5
    assert abs((1 - flat.float().mean()) - 0.85 * patterned) < 0.2 and flat.all() == (patterned == 0)
