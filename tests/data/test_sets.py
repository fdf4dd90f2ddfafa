from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atbsn.data import base, build_dataset
from atbsn.data.folder import NoisyFolder
from atbsn.data.paired import PairedFolder
from atbsn.pictures import Picture, write_picture
from atbsn.utils.errors import UserError

RNG = np.random.default_rng(0)


def picture(height: int = 8, width: int = 10) -> Picture:
    return Picture(RNG.integers(0, 256, (height, width, 3), np.uint8))


def write(root: Path, *names: str, **size: int) -> None:
    for name in names:
        write_picture(root / name, picture(**size))


def keys(images: base.ImageSet) -> list[str]:
    return [images.key(index) for index in range(len(images))]


def test_folder_is_recursive_with_unique_keys(tmp_path: Path) -> None:
    write(tmp_path, "b.png", "sub/a.bmp", "sub/same.png", "sub/same.tif", "v1.2.png")
    images = build_dataset({"type": "NoisyFolder", "dataroot": str(tmp_path)})
    assert keys(images) == ["b", "sub/a", "sub/same.png", "sub/same.tif", "v1.2"]
    assert images.size(0) == (8, 10)
    assert images.read(0).rgb.shape == (8, 10, 3)
    assert not images.has_clean
    with pytest.raises(TypeError, match="no references"):
        images.read_clean(0)


def test_one_file_is_a_folder_of_one(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    assert keys(NoisyFolder(tmp_path / "a.png")) == ["a"]


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    for set_type in ("NoisyFolder", "PairedFolder", "SimulatedCamera"):
        with pytest.raises(UserError, match="nowhere: no such"):
            build_dataset({"type": set_type, "dataroot": str(tmp_path / "nowhere")})
        with pytest.raises(UserError, match="no picture in this folder"):
            build_dataset({"type": set_type, "dataroot": str(tmp_path)})


def test_an_unreadable_picture_stops_preloading_with_its_name(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png", height=64, width=64)
    data = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"b\.png: cannot be read as a picture"):
        NoisyFolder(tmp_path).preload()


def test_preloading_decodes_once_and_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png")
    images = NoisyFolder(tmp_path)
    before = images.crop(1, 2, 3, 5)
    images.preload()
    for path in images.paths:
        path.unlink()
    images.preload()
    assert np.array_equal(images.crop(1, 2, 3, 5), before)
    assert before.shape == (5, 5, 3)


def test_too_many_pictures_for_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.png", "b.png", height=100, width=100)
    monkeypatch.setattr(base, "available_memory", lambda: 70_000)
    with pytest.raises(UserError, match=r"2 pictures: .* prepare an LMDB .*atbsn prepare folder"):
        NoisyFolder(tmp_path).preload()
    monkeypatch.setattr(base, "available_memory", lambda: 80_000)
    NoisyFolder(tmp_path).preload()


def test_available_memory_is_plausible() -> None:
    available = base.available_memory()
    assert available is None or 2**20 < available < 2**50


def test_pairs_of_noisy_and_gt(tmp_path: Path) -> None:
    write(tmp_path, "Noisy/train/a.png", "Noisy/valid/b.png", "GT/train/a.png", "GT/valid/b.png")
    assert keys(PairedFolder(tmp_path)) == ["train/a", "valid/b"]
    images = PairedFolder(tmp_path, split="valid")
    assert keys(images) == ["b"]
    assert images.pairs[0][1:] == (tmp_path / "Noisy/valid/b.png", tmp_path / "GT/valid/b.png")
    assert images.has_clean
    assert images.read_clean(0).rgb.shape == images.read(0).rgb.shape


def test_pairs_of_two_folders_whatever_the_extension(tmp_path: Path) -> None:
    write(tmp_path, "in/x/a.png", "in/b.png", "ref/x/a.tif", "ref/b.png", "ref/unused.png")
    images = PairedFolder(tmp_path / "in", tmp_path / "ref")
    assert [(key, clean.name) for key, _, clean in images.pairs] == [("b", "b.png"), ("x/a", "a.tif")]


def test_pairs_by_ending(tmp_path: Path) -> None:
    write(tmp_path, "5dmark3_1_real.png", "5dmark3_1_mean.png", "d600_Real.png", "d600_mean.png", "other.png")
    images = PairedFolder(tmp_path)
    assert keys(images) == ["5dmark3_1", "d600"]
    assert images.pairs[1][1:] == (tmp_path / "d600_Real.png", tmp_path / "d600_mean.png")


def test_pairs_that_are_none(tmp_path: Path) -> None:
    write(tmp_path, "one.png", "two.png")
    with pytest.raises(UserError, match=r"it needs Noisy/ and GT/ .*_real.*_mean.*; found: one\.png, two\.png"):
        PairedFolder(tmp_path)
    with pytest.raises(UserError, match="found: one"):
        PairedFolder(tmp_path, split="train")


def test_a_noisy_picture_without_reference(tmp_path: Path) -> None:
    write(tmp_path, "a_real.png", "b_real.png", "c_real.png", "c_mean.png")
    with pytest.raises(UserError, match=r"a_real\.png \(and 1 more\): no reference; .* or use NoisyFolder"):
        PairedFolder(tmp_path)
    write(tmp_path, "Noisy/a.png", "GT/b.png")
    with pytest.raises(UserError, match=r"a\.png: no reference; it needs a file of the same name"):
        PairedFolder(tmp_path)


def names(images: PairedFolder) -> list[tuple[str, str, str]]:
    return [(key, noisy.name, clean.name) for key, noisy, clean in images.pairs]


def test_the_whole_name_goes_before_the_stem(tmp_path: Path) -> None:
    write(tmp_path, "in/1.png", "in/1.jpg", "ref/1.png", "ref/1.jpg")
    assert names(PairedFolder(tmp_path / "in", tmp_path / "ref")) == [
        ("1.jpg", "1.jpg", "1.jpg"), ("1.png", "1.png", "1.png")
    ]  # fmt: skip


def test_two_pictures_of_one_name_and_one_reference(tmp_path: Path) -> None:
    write(tmp_path, "in/1.png", "in/1.jpg", "ref/1.png")
    with pytest.raises(UserError, match=r"in/1\.jpg and .*in/1\.png share a name, and there is one reference, .*ref/1"):
        PairedFolder(tmp_path / "in", tmp_path / "ref")
    write(tmp_path, "other/2.bmp", "two/2.png", "two/2.jpg")
    with pytest.raises(UserError, match=r"other/2\.bmp: .*two/2\.jpg and 2\.png share a name, and either may be its"):
        PairedFolder(tmp_path / "other", tmp_path / "two")


def test_pairs_by_templates_in_one_folder(tmp_path: Path) -> None:
    write(tmp_path, "0001_NOISY_010.png", "0001_NOISY_011.png", "0001_GT_010.png", "0001_GT_011.tif", "readme.png")
    images = PairedFolder(tmp_path, noisy="{scene}_NOISY_{n}", clean="{scene}_GT_{n}")
    assert names(images) == [
        ("0001_NOISY_010", "0001_NOISY_010.png", "0001_GT_010.png"),
        ("0001_NOISY_011", "0001_NOISY_011.png", "0001_GT_011.tif"),
    ]


def test_pairs_by_templates_in_folders_of_any_depth(tmp_path: Path) -> None:
    write(tmp_path, "in/x/y/a_n.png", "in/b_n.png", "clean/x/y/a.png", "clean/b.png")
    images = PairedFolder(tmp_path / "in", tmp_path / "clean", noisy="{name}_n", clean="{name}")
    assert [clean.relative_to(tmp_path).as_posix() for *_, clean in images.pairs] == ["clean/b.png", "clean/x/y/a.png"]


def test_several_shots_of_one_reference(tmp_path: Path) -> None:
    write(tmp_path, "s1/shot_1.png", "s1/shot_2.png", "s1/mean.png", "s2/shot_1.png", "s2/mean.png", "s2/shot_1.jpg")
    images = PairedFolder(tmp_path, noisy="{scene}/shot_{n}.png", clean="{scene}/mean.png")
    assert [(key, clean.parent.name) for key, _, clean in images.pairs] == [
        ("s1/shot_1", "s1"), ("s1/shot_2", "s1"), ("s2/shot_1.png", "s2")
    ]  # fmt: skip


def test_a_template_that_fits_the_references_too(tmp_path: Path) -> None:
    write(tmp_path, "v1.2.png", "v1.2_gt.png")
    assert names(PairedFolder(tmp_path, noisy="{name}", clean="{name}_gt")) == [("v1.2", "v1.2.png", "v1.2_gt.png")]


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ({"noisy": "{a}_n"}, "two templates belong together"),
        ({"noisy": "{a}_n", "clean": "{a}", "split": "train"}, "and to no split"),
        ({"noisy": "{a}_n", "clean": "mean"}, "clean: 'mean' is no template; write the part that differs as {name}"),
        ({"noisy": "{a", "clean": "{a}"}, "noisy: '{a' is no template"),
        ({"noisy": "{scene}_n", "clean": "{scnee}"}, "clean: {scnee} is not in the noisy template .* mean 'scene'"),
        ({"noisy": "{a}_m", "clean": "{a}"}, "no picture has a name like '{a}_m'; there is x_n.png"),
        ({"noisy": "{a}_n", "clean": "{a}_gt"}, r"x_n\.png: no reference; it needs .*x_gt, or use NoisyFolder"),
    ],
)
def test_templates_that_do_not_pair(tmp_path: Path, templates: dict[str, Any], message: str) -> None:
    write(tmp_path, "x_n.png")
    with pytest.raises(UserError, match=message):
        PairedFolder(tmp_path, **templates)


def test_a_pair_of_two_sizes(tmp_path: Path) -> None:
    write(tmp_path, "a_real.png")
    write(tmp_path, "a_mean.png", height=9)
    with pytest.raises(UserError, match=r"9x10 pixels, but .* has 8x10; a pair must have one size"):
        PairedFolder(tmp_path).read_clean(0)


def test_unknown_names_and_arguments() -> None:
    with pytest.raises(UserError, match="did you mean 'NoisyFolder'"):
        build_dataset({"type": "NoisyFoldr"})
    with pytest.raises(UserError, match="did you mean 'dataroot'"):
        build_dataset({"type": "NoisyFolder", "dataroott": "x"})
