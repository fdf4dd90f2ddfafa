"""Pictures reduced in size: averages of what they were, one a factor."""

from pathlib import Path

import numpy as np
import pytest

from atbsn.data import build_dataset
from atbsn.pictures import Picture, write_picture
from atbsn.utils.errors import UserError


def folder(tmp_path: Path, *sizes: tuple[int, int]) -> Path:
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(sizes):
        rgb = rng.normal(120, 20, (height, width, 3)).clip(0, 255).astype(np.uint8)
        write_picture(tmp_path / "pictures" / f"{number}.png", Picture(rgb))
    return tmp_path / "pictures"


def test_a_file_is_one_picture_a_factor_and_its_noise_is_averaged_away(tmp_path: Path) -> None:
    images = build_dataset(
        {"type": "ReducedFolder", "dataroot": str(folder(tmp_path, (96, 131))), "factors": [1, 2, 3], "min_side": 32}
    )
    assert [images.key(index) for index in range(3)] == ["0@1", "0@2", "0@3"]
    assert [images.size(index) for index in range(3)] == [(96, 131), (48, 65), (32, 43)]
    stds = []
    for index in range(3):
        rgb = images.read(index).rgb8()
        assert rgb.shape[:2] == images.size(index)
        stds.append(rgb.std())
    assert stds[0] == pytest.approx(20, rel=0.05)
    assert stds[1] == pytest.approx(10, rel=0.1)
    assert stds[2] == pytest.approx(20 / 3, rel=0.1)


def test_a_file_that_is_replaced_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, name in ((50, "one"), (200, "two")):
        write_picture(tmp_path / name / "in" / "a.png", Picture(np.full((64, 64, 3), value, np.uint8)))
    for name, value in (("one", 50), ("two", 200)):  # the same name in another folder
        monkeypatch.chdir(tmp_path / name)
        images = build_dataset({"type": "ReducedFolder", "dataroot": "in", "factors": [1], "min_side": 32})
        assert images.read(0).rgb8().mean() == value
    write_picture(Path("in", "a.png"), Picture(np.full((64, 64, 3), 90, np.uint8)))
    assert images.read(0).rgb8().mean() == 90


def test_pictures_that_would_be_too_small_are_left_out_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    root = folder(tmp_path, (96, 96), (300, 300))
    images = build_dataset({"type": "ReducedFolder", "dataroot": str(root), "factors": [2], "min_side": 100})
    assert [images.key(index) for index in range(len(images))] == ["1@2"]
    with pytest.raises(UserError, match="no picture keeps 200 pixels a side; give larger pictures or smaller factors"):
        build_dataset({"type": "ReducedFolder", "dataroot": str(root), "factors": [2], "min_side": 200})


def test_non_local_means_take_noise_off_first(tmp_path: Path) -> None:
    root = str(folder(tmp_path, (128, 128)))
    plain, smooth = (
        build_dataset({"type": "ReducedFolder", "dataroot": root, "factors": [2], "min_side": 32, "nlm": nlm})
        for nlm in (0, 30)
    )
    assert smooth.read(0).rgb8().std() < plain.read(0).rgb8().std() / 2
