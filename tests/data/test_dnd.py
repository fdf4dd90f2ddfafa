"""DND as it is published: HDF5, transposed, boxes counted from 1."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from helpers.archives import make_dnd

from atbsn.data import build_dataset
from atbsn.data.dnd import DND
from atbsn.data.patches import PatchDataset
from atbsn.pictures import to_depth
from atbsn.utils.errors import UserError


@pytest.fixture
def archive(tmp_path: Path) -> Any:
    return tmp_path, *make_dnd(tmp_path)


def cut(image: np.ndarray, box: np.ndarray, margin: int = 0) -> np.ndarray:
    """What MATLAB's ``image(row0:row1, col0:col1, :)`` is, with a margin where the image has one."""
    row0, col0, row1, col1 = box.astype(int)
    return image[max(0, row0 - 1 - margin) : row1 + margin, max(0, col0 - 1 - margin) : col1 + margin]


def test_boxes(archive: Any) -> None:
    root, images, boxes = archive
    dnd = build_dataset({"type": "DND", "dataroot": str(root)})
    assert [dnd.key(index) for index in range(6)] == ["0001_01", "0001_02", "0001_03", "0002_01", "0002_02", "0002_03"]
    assert len(dnd) == 6 and not dnd.has_clean and dnd.submission == "dnd"
    for index in range(6):
        picture = dnd.read(index)
        expected = cut(images[index // 3], boxes[index // 3, index % 3]) * np.float32(255)
        assert picture.rgb.dtype == np.float32 and picture.rgb.flags.c_contiguous
        assert np.array_equal(picture.rgb, expected)
        assert dnd.size(index) == (64, 64)
        assert np.array_equal(picture.rgb[dnd.window(index)], expected)


def test_context_is_what_the_image_has_around_a_box(archive: Any) -> None:
    root, images, boxes = archive
    dnd, alone = DND(root, context=20), DND(root)
    for index in range(6):
        image, box = images[index // 3], boxes[index // 3, index % 3]
        picture = dnd.read(index)
        assert np.array_equal(picture.rgb, cut(image, box, margin=20) * np.float32(255))
        assert dnd.size(index) == picture.rgb.shape[:2]
        assert np.array_equal(picture.rgb[dnd.window(index)], alone.read(index).rgb)
    assert dnd.size(3) == (84, 84)  # the box in the corner: nothing is made up above it and to its left


def test_whole_images_to_train_on(archive: Any) -> None:
    root, images, _ = archive
    dnd = DND(root, split="images")
    assert [dnd.key(index) for index in range(len(dnd))] == ["0001", "0002"]
    assert dnd.size(1) == (120, 150) and dnd.submission is None
    assert np.array_equal(dnd.read(1).rgb, images[1] * np.float32(255))
    patches = PatchDataset(dnd, 64, use_flip=False, use_rot=False)
    rounded = to_depth(dnd.read(patches[0]["index"]).rgb, np.uint16)
    assert (rounded % 257).any()
    windows = np.lib.stride_tricks.sliding_window_view(rounded, (64, 64), axis=(0, 1))
    assert (windows == patches[0]["noisy"].permute(2, 0, 1).numpy()).all(axis=(2, 3, 4)).sum() == 1


def test_other_than_the_published_number_is_taken_with_a_warning(
    archive: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("atbsn"), "propagate", True)
    DND(archive[0])
    assert "2 images, 6 boxes; the published set has 50 and 1000" in caplog.text


def test_missing_files(archive: Any) -> None:
    root, _, _ = archive
    (root / "images_srgb/0002.mat").unlink()
    with pytest.raises(UserError, match=r"0002\.mat: no such file; dataroot must hold info\.mat and images_srgb/0001"):
        DND(root)
    (root / "info.mat").unlink()
    with pytest.raises(UserError, match=r"info\.mat: no such file; .*found in .*: images_srgb"):
        DND(root)
    with pytest.raises(UserError, match="found in nowhere: no folder nowhere"):
        DND("nowhere")


def test_v5_files_where_v73_is_published(archive: Any) -> None:
    root, images, _ = archive
    scipy.io.savemat(root / "images_srgb/0001.mat", {"InoisySRGB": images[0]})
    with pytest.raises(UserError, match=r"0001\.mat: a MATLAB v5 file, but it is published as MATLAB v7\.3"):
        DND(root)


def test_a_truncated_file(archive: Any) -> None:
    root, _, _ = archive
    path = root / "images_srgb/0002.mat"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"0002\.mat: cannot be read .*; it may be damaged, download it again"):
        DND(root)


def test_another_variable(archive: Any) -> None:
    root, _, _ = archive
    with h5py.File(root / "images_srgb/0001.mat", "r+") as file:
        file.move("InoisySRGB", "InoisyRAW")
    with pytest.raises(UserError, match=r"0001\.mat: .*InoisySRGB.*; is it the right file\?"):
        DND(root)


def test_an_image_of_another_shape(archive: Any) -> None:
    root, _, _ = archive
    with h5py.File(root / "images_srgb/0001.mat", "r+") as file:
        del file["InoisySRGB"]
        file["InoisySRGB"] = np.zeros((120, 150, 3), np.uint8)
    with pytest.raises(UserError, match=r"InoisySRGB is 120 x 150 x 3 of kind 'u', not floats of 3 x W x H"):
        DND(root)


def change_boxes(root: Path, change: Callable[..., Any]) -> None:
    with h5py.File(root / "info.mat", "r+") as file:
        table = file["#refs#/1"]
        table[...] = change(table[...])


def test_a_box_outside_of_its_image(archive: Any) -> None:
    root, _, _ = archive
    change_boxes(root, lambda table: table + np.array([[0], [100], [0], [100]]))
    with pytest.raises(UserError, match=r"0002\.mat: box 1, rows 1 to 64 and columns 101 to 164, is not inside"):
        DND(root)


def test_boxes_that_are_none(archive: Any) -> None:
    root, _, _ = archive
    change_boxes(root, lambda table: table + 0.5)
    with pytest.raises(UserError, match=r"info\.mat: boundingboxes of image 0002 are 4 x 3, not .* whole numbers"):
        DND(root)


def test_h5py_is_asked_for_where_it_is_needed(archive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(UserError, match="pip install h5py"):
        DND(archive[0])
