"""Synthetic noise: levels within 10 %, lag-1 correlation within 0.05. Real pictures: as each test says."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import atbsn as package
from atbsn.data.simulated import SimulatedCamera
from atbsn.noise import NoiseModel, bounded, describe_noise, estimate, estimate_with, from_residual, plot
from atbsn.noise.blocks import BlockStore, fine_share, plane_response
from atbsn.noise.sampling import REACH
from atbsn.pictures import read_picture, to_tensor
from atbsn.utils.errors import UserError

SIDE = 384


def scene() -> torch.Tensor:
    """(1, 3, H, W): ramps and slow waves, a third of it with coarse texture."""
    rows, columns = torch.meshgrid(torch.arange(SIDE * 1.0), torch.arange(SIDE * 1.0), indexing="ij")
    clean = torch.stack([50 + columns / 2.4, 128 + 70 * torch.sin(rows / 50), 210 - rows / 2.4])
    texture = torch.from_numpy(np.random.default_rng(0).normal(size=(SIDE, SIDE, 1)).astype(np.float32))
    texture = torch.from_numpy(cv2.GaussianBlur(texture.numpy(), (0, 0), 1.5)) * 400 * (columns > SIDE * 2 / 3)
    return (clean + texture).clamp(40, 215)[None]


def made(sigma: float, correlated: bool, kurtosis: float = 3, signal: float = 0) -> NoiseModel:
    model = NoiseModel()
    if correlated:
        lags = torch.arange(-REACH, REACH + 1.0)
        colours = torch.tensor([[1, 0.3, 0.5], [0.3, 1, 0.2], [0.5, 0.2, 1]])
        model.correlation.copy_(colours[:, :, None, None] * torch.exp(-(lags[:, None] ** 2 + lags**2) / 1.5))
    model.levels.copy_((sigma * (1 + signal * torch.linspace(-0.5, 0.5, 17))).expand(3, -1))
    model.kurtosis.fill_(kurtosis)
    return model


def compare(found: NoiseModel, true: NoiseModel, level: float = 0.1, lag1: float = 0.05) -> None:
    # Brighter than that the scene is textured everywhere, and what is seen in texture alone cannot be told from it.
    intensities = torch.arange(64.0, 151.0).expand(1, 3, 1, -1)
    assert (found.level(intensities) / true.level(intensities) - 1).abs().max() < level
    for place in ((REACH, REACH + 1), (REACH + 1, REACH)):
        off = found.correlation[(..., *place)].diagonal() - true.correlation[(..., *place)].diagonal()
        assert off.abs().max() < lag1


@pytest.mark.parametrize("sigma", [2, 25])
@pytest.mark.parametrize(("correlated", "signal"), [(False, 0), (True, 0), (True, 1)])
def test_known_noise(sigma: int, correlated: bool, signal: int) -> None:
    true, clean = made(sigma, correlated, signal=signal), scene()
    noisy = clean + true.sample(clean, torch.Generator().manual_seed(3))
    compare(estimate([to_tensor(noisy[0].clamp(0, 255).round().byte().permute(1, 2, 0).numpy())]), true)


def test_heavy_tails() -> None:
    """Blocks of the tail are taken for texture beside real texture, so the level comes out up to 16 % too low."""
    true, clean = made(8, True, kurtosis=5), scene()
    noisy = clean + true.sample(clean, torch.Generator().manual_seed(3))
    found = estimate(noisy)
    compare(found, true, level=0.16)
    assert 3.5 < found.kurtosis < 6.5
    assert estimate(clean + made(8, True).sample(clean, torch.Generator().manual_seed(3))).kurtosis < 3.4


def test_from_residual_needs_no_flat_place() -> None:
    true = made(25, True)
    clean = torch.randint(60, 200, (1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).float()
    noisy = clean + true.sample(clean, torch.Generator().manual_seed(3))
    found = from_residual([(noisy[0], clean[0])])
    intensities = torch.arange(120.0, 140.0).expand(1, 3, 1, -1)
    assert (found.level(intensities) / 25 - 1).abs().max() < 0.1


def test_pictures_of_different_levels() -> None:
    true, clean = made(6, True), scene()
    noisy = [
        (clean + true.sample(clean, torch.Generator().manual_seed(seed), scale))[0]
        for seed, scale in enumerate((0.5, 2.0, 1.0))
    ]
    found = estimate(iter(noisy))
    compare(found, true)
    assert 0.35 < found.spread < 0.75  # of log 0.5, log 2, log 1


def test_the_choice_of_blocks_is_bounded_and_spread() -> None:
    store = BlockStore(capacity=300, per_picture=100)
    dark = torch.full((3, 320, 320), 20.0)
    dark[:, :32, :32] = 200
    for _ in range(8):
        store.add(dark + torch.randn(dark.shape))
        assert len(store.blocks()[1]) <= 300
    _, means, owner = store.blocks()
    assert set(owner.tolist()) == set(range(8))
    assert (means[:, 0] > 100).sum() >= 8


def test_the_plane_response_is_what_happens() -> None:
    """Monte Carlo of the covariance that is left of white noise once the plane is off."""
    response = plane_response()
    centre = (2 * REACH + 1) ** 2 // 2
    white = torch.zeros((2 * REACH + 1) ** 2, dtype=torch.float64)
    white[centre] = 1
    assert (response @ white)[centre] == pytest.approx(256 - 3)
    assert fine_share(made(1, False).correlation, 0)[0].tolist() == pytest.approx([1, 1, 1])


def test_it_works_where_nothing_else_needs_gradients() -> None:
    noisy = (128 + 9 * torch.randn(3, 128, 128, generator=torch.Generator().manual_seed(0))).clamp(0, 255)
    with torch.inference_mode():
        inside = estimate([noisy])
    assert inside.to_dict() == estimate([noisy]).to_dict()


def test_texture_everywhere_is_held_down_and_noise_is_not() -> None:
    """White texture of many strengths looks like noise of 3 times the level; what a denoiser takes off bounds it."""
    rng = np.random.default_rng(0)
    strength = np.kron(np.exp(rng.normal(1.5, 0.8, (16, 16, 1))), np.ones((16, 16, 1)))
    texture = torch.from_numpy(128 + strength * rng.normal(size=(256, 256, 3))).permute(2, 0, 1).float()
    flat = made(6, correlated=False)
    found, through = estimate([texture]), made(2, correlated=False)
    assert found.kurtosis > 3.3 and found.levels.max() > 3.5
    assert bounded(found, through).levels.max() <= 1.5 * 2 + 1e-6
    kept = flat.levels.clone()
    assert torch.equal(bounded(flat, through).levels, kept)  # kurtosis 3: all blocks are alike, so it is noise


@pytest.mark.parametrize("pictures", [[], [np.zeros((64, 64, 3), np.uint8)], [np.full((15, 15, 3), 90, np.uint8)]])
def test_nothing_to_estimate_from(pictures: list[np.ndarray]) -> None:
    with pytest.raises(UserError, match="picture"):
        estimate(pictures)


def test_wrong_shape() -> None:
    with pytest.raises(UserError, match="shape"):
        estimate([np.zeros((64, 64), np.uint8)])


def through_real(noisy: list[torch.Tensor]) -> NoiseModel:
    net = package.load("real")

    def denoise(picture: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return net.denoise(picture[None], **net.denoise_settings)[0].float().clamp(0, 255)

    return estimate_with(denoise, noisy)


@pytest.mark.parametrize("name", ["chelsea", "motorcycle_left", "rocket"])
def test_simulated_camera(name: str) -> None:
    """Strong correlated noise, on texture too. ``estimate`` alone has up to 23 % too much there.

    Correlations come out up to 0.16 too small: this camera demosaics bilinearly, which those that ``real`` learnt from
    hardly do, so that it leaves some of it on texture.
    """
    images = SimulatedCamera()
    index = [images.key(number) for number in range(len(images))].index(name)
    noisy, clean = (to_tensor(read(index).rgb8()) for read in (images.read, images.read_clean))
    close_to_the_reference(through_real([noisy]), [noisy], [clean], level=0.1, lag1=0.18)


@pytest.mark.parametrize("way", [estimate, through_real])
@pytest.mark.parametrize("image", [1, 8, 15, 22, 29])
def test_sidd_against_its_references(shared: Path, image: int, way: Callable[..., Any]) -> None:
    """Strong real noise."""
    paths = sorted((shared / "data/sidd/val/noisy").glob(f"{image}_*.png"))[::2]
    noisy = [to_tensor(read_picture(path).rgb8()) for path in paths]
    clean = [to_tensor(read_picture(path.parents[1] / "clean" / path.name).rgb8()) for path in paths]
    close_to_the_reference(way(noisy), noisy, clean, level=0.12, lag1=0.1)


def close_to_the_reference(
    found: NoiseModel, noisy: list[torch.Tensor], clean: list[torch.Tensor], level: float, lag1: float
) -> None:
    levels = torch.cat([found.level(picture[None]).square().mean((2, 3)) for picture in clean]).mean(0).sqrt()
    noise = torch.cat([(a - b).flatten(1) for a, b in zip(noisy, clean, strict=True)], dim=1)
    assert (levels / noise.std(1) - 1).abs().max() < level
    true = from_residual(zip(noisy, clean, strict=True))
    assert (found.correlation - true.correlation)[:, :, REACH, REACH + 1].diagonal().abs().max() < lag1


def test_describe_is_one_line_and_the_picture_draws() -> None:
    pytest.importorskip("matplotlib")
    model = made(10, True)
    assert re.fullmatch(
        r"level at 16: 10\.0/10\.0/10\.0, 128: .*lag-1 correlation 0\.51 across.*", describe_noise(model)
    )
    axes = plot(model).subfigs[0].axes[0]
    seen = next(line for line in axes.lines if line.get_label() == "G")
    assert np.allclose(seen.get_ydata(), 10)
    assert len(plot(model).subfigs[1].axes) == 10


def test_what_a_denoiser_leaves_in_is_made_up_for() -> None:
    """It takes off 0.7 of any noise: 0.7 of the level at first, and 0.49 of it when 0.7 was added."""
    generator = torch.Generator().manual_seed(0)
    pictures = [128 + 12 * torch.randn(3, 256, 256, generator=generator) for _ in range(2)]
    model = estimate_with(lambda noisy: 0.3 * noisy + 0.7 * noisy.mean((1, 2), keepdim=True), pictures)
    assert model.mean_level(pictures) == pytest.approx(12, rel=0.1)
