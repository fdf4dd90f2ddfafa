"""Crops of whatever pictures can be read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atbsn.data.crops import PictureCrops, random_crops
from atbsn.data.folder import NoisyFolder
from atbsn.pictures import Picture, write_picture
from atbsn.utils.errors import UserError


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def photograph(path: Path, make: str, model: str, side: int = 64) -> None:
    """A JPEG that says which camera took it."""
    tags = Image.Exif()
    tags[271], tags[272] = make, model
    Image.fromarray(noise(side, side, 3)).save(path, exif=tags)


def test_crops_of_whatever_can_be_read(tmp_path: Path) -> None:
    for name, shape in (("a.png", (700, 300, 3)), ("b.png", (100, 90, 3)), ("small.png", (20, 90, 3))):
        write_picture(tmp_path / name, Picture(noise(*shape)))
    (tmp_path / "torn.png").write_bytes((tmp_path / "a.png").read_bytes()[:99])
    images = PictureCrops([str(tmp_path)], num_crops=40, side=256)
    assert {images.key(index).split("/")[-2] for index in range(len(images))} == {"a.png", "b.png"}
    assert all(max(images.size(index)) <= 256 for index in range(len(images))) and len(images) == 5
    assert {path.name for path, _ in images.skipped} == {"small.png", "torn.png"}
    assert images.crop(0, 3, 5, 32).shape == (32, 32, 3)
    assert [images.owner(index) for index in range(5)] == [0, 0, 0, 0, 1] and images.cameras == [None, None]
    with pytest.raises(UserError, match="no picture can be used"):
        PictureCrops([str(tmp_path / "torn.png")])


def test_which_cameras(tmp_path: Path) -> None:
    photograph(tmp_path / "a.jpg", "Canon", "Canon EOS 5D Mark II")
    photograph(tmp_path / "b.jpg", "SONY", "ILCE-7M3")
    photograph(tmp_path / "c.jpg", "NIKON CORPORATION", "NIKON D800")
    write_picture(tmp_path / "d.png", Picture(noise(64, 64, 3)))
    images = PictureCrops([str(tmp_path)], side=64)
    assert images.cameras == ["Canon EOS 5D Mark II", "SONY ILCE-7M3", "NIKON D800", None]


def test_reading_stops_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(9):
        write_picture(tmp_path / f"{number}.png", Picture(noise(70, 150, 3)))
    assert len(PictureCrops([str(tmp_path)], side=64, seconds=1e9).cameras) == 9
    now = iter(range(0, 900, 10))
    monkeypatch.setattr("atbsn.data.crops.time.monotonic", lambda: next(now))
    images = PictureCrops([str(tmp_path)], side=64, seconds=25.0)
    assert len(images.cameras) == 3 and len({images.key(index).split("/")[-2] for index in range(len(images))}) == 3
    assert len(images) == 3 * 3  # what a picture of 70 x 150 pixels holds
    always = PictureCrops([str(tmp_path)], side=64, seconds=0.001)
    assert len(always.cameras) == 1


def test_random_crops_are_shared_out_and_fit(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", Picture(np.full((40, 60, 3), 10, np.uint8)))
    write_picture(tmp_path / "b.png", Picture(np.full((100, 90, 3), 20, np.uint8)))
    images = NoisyFolder(tmp_path)
    crops = random_crops(images, [0, 1], 5, 64, seed=0)
    assert {(crop.shape, int(crop.mean())) for crop in crops} == {((40, 40, 3), 10), ((64, 64, 3), 20)}
    assert sorted(sum(int(crop.mean()) == value for crop in crops) for value in (10, 20)) == [2, 3]
    assert [crop.shape[0] for crop in random_crops(images, [1], 2, 64, seed=0)] == [64, 64]
