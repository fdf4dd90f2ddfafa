"""SIDD as it is published: where pictures are, what they are called, and what is said when they are not there."""

import logging
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from helpers.archives import INSTANCES, create_v73, make_sidd_blocks, make_sidd_medium

from atbsn.data import build_dataset
from atbsn.data.patches import PatchDataset
from atbsn.data.sidd import SIDDBenchmark, SIDDMedium, SIDDValidation, scene_groups
from atbsn.utils.errors import UserError

# --- SIDD-Medium -------------------------------------------------------------------------------------------


@pytest.fixture
def medium(tmp_path: Path) -> tuple[Path, Any]:
    return tmp_path / "SIDD_Medium_Srgb", make_sidd_medium(tmp_path)


def test_noisy_pictures_with_their_references_and_groups(medium: tuple[Path, Any]) -> None:
    root, noisy = medium
    images = build_dataset({"type": "SIDDMedium", "dataroot": str(root)})
    assert [images.key(index) for index in range(len(images))] == sorted(noisy)
    for index, key in enumerate(sorted(noisy)):
        assert np.array_equal(images.read(index).rgb, noisy[key])
        assert images.size(index) == (100, 140)
        assert not np.array_equal(images.read_clean(index).rgb, noisy[key])
    assert images.has_clean
    assert images.groups(5) == {"scene": "004", "phone": "GP", "iso": "800"}
    assert len(SIDDMedium(root / "Data")) == 6


def test_without_references_it_is_for_training_only(medium: tuple[Path, Any]) -> None:
    root, _ = medium
    next(root.rglob("*_GT_SRGB_011.PNG")).unlink()
    images = SIDDMedium(root)
    assert not images.has_clean
    with pytest.raises(TypeError, match="SIDDMedium has no references"):
        images.read_clean(0)


def test_names_of_scenes() -> None:
    assert scene_groups("0193_009_IP_01600_02000_5500_N") == {"scene": "009", "phone": "IP", "iso": "1600"}
    assert scene_groups("holidays") == {}


def test_another_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing: no \*_NOISY_SRGB.*needs folders named.*found: no folder"):
        SIDDMedium(tmp_path / "nothing")
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match=r"found: a\.png; for other pictures use NoisyFolder"):
        SIDDMedium(tmp_path)


def test_a_scene_twice(medium: tuple[Path, Any]) -> None:
    root, _ = medium
    copy = root / "Data" / INSTANCES[0].replace("_L", "_H")
    shutil.copytree(root / "Data" / INSTANCES[0], copy)
    with pytest.raises(UserError, match=r"scene instance 0001 is in .* too; remove one of them"):
        SIDDMedium(root)


def test_a_scene_without_noisy_pictures(medium: tuple[Path, Any]) -> None:
    root, _ = medium
    for path in (root / "Data" / INSTANCES[2]).glob("*_NOISY_*"):
        path.unlink()
    with pytest.raises(UserError, match=f"{INSTANCES[2]}: no noisy picture of this scene"):
        SIDDMedium(root)


def test_a_misnamed_scene(medium: tuple[Path, Any]) -> None:
    root, _ = medium
    (root / "Data" / INSTANCES[1]).rename(root / "Data" / "second")
    with pytest.raises(UserError, match="second: not the name of a scene folder"):
        SIDDMedium(root)


# --- blocks ------------------------------------------------------------------------------------------------


def test_validation_blocks(tmp_path: Path) -> None:
    noisy, clean = make_sidd_blocks(tmp_path, "Validation")
    images = build_dataset({"type": "SIDDValidation", "dataroot": str(tmp_path)})
    assert len(images) == 6 and images.has_clean and images.submission is None
    assert [images.key(index) for index in range(6)] == ["00_00", "00_01", "00_02", "01_00", "01_01", "01_02"]
    for index in range(6):
        assert np.array_equal(images.read(index).rgb, noisy[divmod(index, 3)])
        assert np.array_equal(images.read_clean(index).rgb, clean[divmod(index, 3)])
        assert images.read(index).rgb.flags.c_contiguous
        assert images.groups(index) == {"instance": f"0{index // 3}"}


def test_other_than_the_published_blocks_are_taken_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("atbsn"), "propagate", True)
    make_sidd_blocks(tmp_path, "Benchmark")
    SIDDBenchmark(tmp_path)
    assert "2 x 3 x 64 x 64 x 3; the published set is 40 x 32 x 256 x 256 x 3" in caplog.text


def test_training_on_benchmark_blocks_cuts_them_where_they_are(tmp_path: Path) -> None:
    noisy, _ = make_sidd_blocks(tmp_path, "Benchmark")
    images = SIDDBenchmark(tmp_path)
    assert not images.has_clean and images.submission == "sidd"
    patches = PatchDataset(images, 32, use_flip=False, use_rot=False)
    for number in range(12):
        sample = patches[number]
        windows = np.lib.stride_tricks.sliding_window_view(noisy[divmod(sample["index"], 3)], (32, 32), axis=(0, 1))
        found = (windows == sample["noisy"].permute(2, 0, 1).numpy()).all(axis=(2, 3, 4))
        assert found.sum() == 1
    assert np.shares_memory(images.crop(0, 1, 2, 16), images.crop(0, 1, 2, 16))
    assert np.array_equal(pickle.loads(pickle.dumps(images)).read(4).rgb, noisy[1, 1])


def test_scenes_by_name(tmp_path: Path) -> None:
    make_sidd_blocks(tmp_path, "Validation")
    scenes = tmp_path / "scenes.txt"
    scenes.write_text(f"{INSTANCES[2]}\n{INSTANCES[0]}\n")
    images = SIDDValidation(tmp_path, scenes=scenes)
    assert images.groups(2) == {"instance": INSTANCES[2], "scene": "004", "phone": "GP", "iso": "800"}
    assert images.groups(3)["phone"] == "S6"
    for text, message in (
        (f"{INSTANCES[0]}\n{INSTANCES[0]}\n", f"'{INSTANCES[0]}' stands there 2 times"),
        (f"{INSTANCES[0]}\n", "1 scenes for 2 images; give one for each, in their order"),
        (f"{INSTANCES[0]}\nkitchen\n", "'kitchen' is not <instance>_<scene>_<phone>"),
    ):
        scenes.write_text(text)
        with pytest.raises(UserError, match=message):
            SIDDValidation(tmp_path, scenes=scenes)
    with pytest.raises(UserError, match=r"none\.txt: cannot be read"):
        SIDDValidation(tmp_path, scenes=tmp_path / "none.txt")


def save(path: Path, **variables: Any) -> None:
    scipy.io.savemat(path, variables)


def save_hdf5(path: Path) -> None:
    create_v73(path).close()


NOISY = "BenchmarkNoisyBlocksSrgb"
WRONG = {
    "another variable": (
        lambda path: save(path, blocks=np.zeros((1, 2, 4, 4, 3), np.uint8)),
        rf"no uint8 variable '{NOISY}'; found: blocks \(uint8, 1 x 2 x 4 x 4 x 3\)",
    ),
    "raw blocks": (
        lambda path: save(path, **{NOISY: np.zeros((1, 2, 4, 4), np.float32)}),
        rf"no uint8 variable '{NOISY}'; found: {NOISY} \(single, 1 x 2 x 4 x 4\)",
    ),
    "another shape": (
        lambda path: save(path, **{NOISY: np.zeros((2, 4, 4, 3), np.uint8)}),
        r"is 2 x 4 x 4 x 3, not \(images, blocks, H, W, 3\) as 40 x 32 x 256 x 256 x 3",
    ),
    "HDF5": (save_hdf5, r"a MATLAB v7\.3 file, but it is published as MATLAB v5; take the publisher's own file"),
    "text": (lambda path: path.write_text("404 not found"), "no MATLAB file, but it is published as MATLAB v5"),
    "nothing": (lambda path: None, r"no such file; found there: other\.txt"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file(tmp_path: Path, case: str) -> None:
    make, message = WRONG[case]
    (tmp_path / "other.txt").touch()
    make(tmp_path / f"{NOISY}.mat")
    with pytest.raises(UserError, match=message):
        SIDDBenchmark(tmp_path)


@pytest.mark.parametrize("kept", [0.5, 0.99])
@pytest.mark.parametrize("kind", ["Noisy", "Gt"])
def test_a_truncated_file(tmp_path: Path, kind: str, kept: float) -> None:
    """One is compressed, the other is not."""
    make_sidd_blocks(tmp_path, "Validation")
    path = tmp_path / f"Validation{kind}BlocksSrgb.mat"
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(UserError, match=rf"{path.name}: cannot be read .*; it may be damaged, download it again"):
        SIDDValidation(tmp_path)


def test_references_of_another_shape(tmp_path: Path) -> None:
    make_sidd_blocks(tmp_path, "Validation")
    save(tmp_path / "ValidationGtBlocksSrgb.mat", ValidationGtBlocksSrgb=np.zeros((2, 2, 64, 64, 3), np.uint8))
    with pytest.raises(UserError, match=r"ValidationGt.*: 2 x 2 x 64 x 64 x 3, but ValidationNoisy.* has 2 x 3 x"):
        SIDDValidation(tmp_path)
