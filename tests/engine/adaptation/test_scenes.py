"""What an adaptation learns from: cleaned pictures and cameras."""

from pathlib import Path

import numpy as np
import pytest
import torch

from atbsn.data.folder import NoisyFolder
from atbsn.engine.adaptation.scenes import cameras_of_noise, write_scenes
from atbsn.noise.likeness import MIN_TRIED
from atbsn.pictures import Picture, read_picture, write_picture
from atbsn.utils.budget import TimeBudget
from atbsn.utils.errors import UserError

ENOUGH, SPENT = TimeBudget(10**6), TimeBudget(0)  # seconds from now, before other tests have run


@pytest.fixture
def images(tmp_path: Path) -> NoisyFolder:
    """Three pictures of white noise of a standard deviation of 8."""
    for number in range(3):
        noisy = np.random.default_rng(number).normal(100, 8, (64, 80, 3)).round().astype(np.uint8)
        write_picture(tmp_path / "noisy" / f"{number}.png", Picture(noisy))
    return NoisyFolder(tmp_path / "noisy")


def flat(noisy: torch.Tensor) -> torch.Tensor:
    """A denoiser that knows these pictures."""
    return torch.full_like(noisy, 100.4)


def test_scenes_are_written_as_finely_as_they_are_cleaned(images: NoisyFolder, tmp_path: Path) -> None:
    assert write_scenes(images, [0, 2], flat, tmp_path / "scenes", ENOUGH) == [0, 2]
    scene = read_picture(tmp_path / "scenes" / "2.png").rgb
    assert scene.dtype == np.uint16 and scene.shape == (64, 80, 3)
    assert abs(scene / 257 - 100.4).max() < 1 / 257


def test_cameras_make_such_noise(images: NoisyFolder, tmp_path: Path) -> None:
    write_scenes(images, [0, 1, 2], flat, tmp_path / "scenes", ENOUGH)
    cameras = cameras_of_noise(images, [0, 2], tmp_path / "scenes", MIN_TRIED, ENOUGH, 0)
    again = cameras_of_noise(images, [0, 2], tmp_path / "scenes", MIN_TRIED, ENOUGH, 0)
    assert len(cameras) == 2 * 8 and (cameras.shot == again.shot).all()


def test_without_time_one_picture_is_cleaned_and_searched(images: NoisyFolder, tmp_path: Path) -> None:
    assert write_scenes(images, [0, 1, 2], flat, tmp_path / "scenes", SPENT) == [0]
    write_scenes(images, [0, 1], flat, tmp_path / "both", ENOUGH)
    assert len(cameras_of_noise(images, [0, 1], tmp_path / "both", MIN_TRIED, SPENT, 0)) == 8


def test_weights_that_take_nothing_off_are_named(images: NoisyFolder, tmp_path: Path) -> None:
    write_scenes(images, [0], lambda noisy: noisy, tmp_path / "scenes", ENOUGH)
    with pytest.raises(UserError, match="adapt from weights that take the noise off"):
        cameras_of_noise(images, [0], tmp_path / "scenes", MIN_TRIED, ENOUGH, 0)
