from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from atbsn.data.simulated import SOURCES, SimulatedCamera, add_sensor_noise, bayer_mosaic, develop
from atbsn.pictures import Picture, write_picture
from atbsn.utils.errors import UserError


def noise_of(images: SimulatedCamera, index: int) -> np.ndarray:
    return images.read(index).rgb.astype(float) - images.read_clean(index).rgb


@pytest.mark.parametrize("split", ["train", "val"])
def test_noise_is_correlated_and_as_strong_as_stated(split: Any) -> None:
    images = SimulatedCamera(split=split)
    psnr = []
    for index in range(len(images)):
        noise = noise_of(images, index)
        psnr.append(10 * np.log10(255**2 / np.mean(noise**2)))
        noise -= noise.mean((0, 1))
        for shifted, still in ((noise[:, 1:], noise[:, :-1]), (noise[1:], noise[:-1])):
            assert 0.4 < np.mean(shifted * still) / np.mean(noise**2) < 0.7
        for distance in (5, 9):  # a large blind spot must be able to escape it
            assert abs(np.mean(noise[:, distance:] * noise[:, :-distance])) < 0.1 * np.mean(noise**2)
    assert 26 < np.mean(psnr) < 28
    assert min(psnr) > 23


def test_no_source_is_in_both_splits() -> None:
    def scenes(split: str) -> set[str]:
        return {name.split("_")[0] for name in SOURCES[split]}

    assert not scenes("train") & scenes("val")
    assert len(SimulatedCamera()) == len(SOURCES["train"]) + len(SOURCES["val"])
    for images in (SimulatedCamera(split="train"), SimulatedCamera(split="val")):
        assert all(images.size(index) == images.read_clean(index).rgb.shape[:2] for index in range(len(images)))


def test_noise_depends_on_seed_and_name_only(tmp_path: Path) -> None:
    images = SimulatedCamera(split="val", seed=3)
    assert np.array_equal(images.read(0).rgb, images.read(0).rgb)
    assert not np.array_equal(images.read(0).rgb, SimulatedCamera(split="val", seed=4).read(0).rgb)
    everything = SimulatedCamera(seed=3)
    index = [everything.key(i) for i in range(len(everything))].index(images.key(0))
    assert np.array_equal(images.read(0).rgb, everything.read(index).rgb)


def test_two_pictures_have_different_noise(tmp_path: Path) -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / name, Picture(grey))
    images = SimulatedCamera(tmp_path)
    assert not np.array_equal(images.read(0).rgb, images.read(1).rgb)
    assert np.ptp(images.read_clean(0).rgb) == 0


@pytest.mark.parametrize("level", [0, 40, 128, 230, 255])
def test_flat_grey_goes_through_the_camera_unchanged(level: int) -> None:
    grey = np.full((31, 42, 3), level, np.uint8)
    assert np.abs(develop(bayer_mosaic(grey)).astype(int) - level).max() <= 1


def test_colours_and_places_go_through_the_camera() -> None:
    y, x = np.mgrid[:60, :81]
    rgb = np.stack([80 + x, 180 - y, 60 + x // 2 + y // 2], axis=2).astype(np.uint8)
    assert np.abs(develop(bayer_mosaic(rgb)).astype(int) - rgb)[2:-2, 2:-2].max() <= 3
    assert np.abs(develop(bayer_mosaic(rgb)).astype(int) - rgb).max() <= 6


def test_noise_variance_is_shot_times_signal_plus_read() -> None:
    rng = np.random.default_rng(0)
    for signal in (0.0, 0.1, 0.6):
        noisy = add_sensor_noise(np.full((500, 500), signal, np.float32), 0.01, 1e-4, rng)
        assert noisy.mean() == pytest.approx(signal, abs=5e-4)
        assert noisy.var() == pytest.approx(0.01 * signal + 1e-4, rel=0.03)


def test_jpeg_touches_the_noisy_picture_only() -> None:
    plain, compressed = SimulatedCamera(split="val"), SimulatedCamera(split="val", jpeg_quality=60)
    assert np.array_equal(plain.read_clean(0).rgb, compressed.read_clean(0).rgb)
    difference = plain.read(0).rgb.astype(float) - compressed.read(0).rgb
    assert 1 < np.abs(difference).mean() < 12
    assert np.abs(cv2.blur(difference, (31, 31))).mean() < 3  # colours are not swapped


def test_split_and_folder_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only for the photographs in scikit-image"):
        SimulatedCamera(tmp_path, split="val")
