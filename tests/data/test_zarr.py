"""Zarr stores as stacks."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from atbsn.data.stack import Stack
from atbsn.utils.errors import UserError

zarr = pytest.importorskip("zarr", minversion="3")
VALUES = np.random.default_rng(0).integers(0, 2**16, (2, 3, 40, 52), np.uint16)
"""(C, Z, Y, X)."""


def write(path: Path, version: int, values: np.ndarray = VALUES, axes: str | None = "czyx") -> Path:
    """An OME-Zarr of two scales, 0.4 in version 2 and 0.5 in version 3 of the format."""
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    for name, step in (("full", 1), ("half", 2)):
        group.create_array(name, data=values[..., ::step, ::step], chunks=(1, 1, 16, 16)[-values.ndim :])
    scales = [{"datasets": [{"path": "full"}, {"path": "half"}]}]
    if axes:
        scales[0]["axes"] = [{"name": name} for name in axes]
    group.attrs.update({"multiscales": scales} if version == 2 else {"ome": {"version": "0.5", "multiscales": scales}})
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_every_plane_of_the_finest_scale_is_a_picture(tmp_path: Path, version: int) -> None:
    images = Stack(write(tmp_path / "cells.zarr", version))
    assert len(images) == 6 and images.size(0) == (40, 52)
    assert [images.key(index) for index in (0, 5)] == ["cells/c0_z0", "cells/c1_z2"]
    for index in range(6):
        picture = images.read(index)
        assert picture.grey and picture.rgb.dtype == np.uint16 and picture.suffix == ".tif"
        assert np.array_equal(picture.rgb[..., 0], VALUES[divmod(index, 3)])
    together = Stack(tmp_path / "cells.zarr", channels="together")
    assert len(together) == 3 and np.array_equal(together.read(1).rgb, VALUES[:, 1].transpose(1, 2, 0))


def test_only_the_chunks_of_a_plane_are_read(tmp_path: Path) -> None:
    write(tmp_path / "cells.zarr", 2)
    images = Stack(tmp_path / "cells.zarr")
    for chunk in (tmp_path / "cells.zarr" / "full").rglob("0.1.*"):
        if chunk.is_file():
            chunk.write_bytes(b"damaged")
    assert np.array_equal(images.read(0).rgb[..., 0], VALUES[0, 0])
    with pytest.raises(UserError, match=r"cells\.zarr: cannot be read .*; repair or remove it"):
        images.read(1)


@pytest.mark.parametrize("version", [2, 3])
def test_an_array_by_itself(tmp_path: Path, version: int) -> None:
    """By the names of its axes where it has them, else by the user's."""
    names = {"dimension_names": ["time", "y", "x"]} if version == 3 else {}
    array = zarr.create_array(str(tmp_path / "a.zarr"), data=VALUES[0].astype(">u2"), zarr_format=version, **names)
    if version == 2:
        with pytest.raises(UserError, match=r"does not say what its axes are, 3 x 40 x 52; .* axes: TZYX"):
            Stack(tmp_path / "a.zarr")
        array.attrs["_ARRAY_DIMENSIONS"] = ["time", "y", "x"]
    images = Stack(tmp_path / "a.zarr")
    assert images.key(2) == "a/t2" and np.array_equal(images.read(2).rgb[..., 0], VALUES[0, 2])
    assert images.read(0).rgb.dtype == np.dtype(np.uint16)
    assert Stack(tmp_path / "a.zarr", axes="ZYX").key(2) == "a/z2"


def test_folders_of_stores_and_files_and_their_references(tmp_path: Path) -> None:
    write(tmp_path / "noisy" / "day" / "a.zarr", 3)
    tifffile.imwrite(
        tmp_path / "noisy" / "day" / "a.tif", VALUES[0], metadata={"axes": "ZYX"}, photometric="minisblack"
    )
    write(tmp_path / "clean" / "day" / "a.zarr", 2)
    images = Stack(tmp_path / "noisy")
    keys = [images.key(index) for index in range(len(images))]
    assert keys == [f"day/a.tif/z{z}" for z in range(3)] + [f"day/a.zarr/c{c}_z{z}" for c in range(2) for z in range(3)]
    with pytest.raises(UserError, match=r"a\.tif: no such file"):
        Stack(tmp_path / "noisy", tmp_path / "clean")
    pair = Stack(tmp_path / "noisy" / "day" / "a.zarr", tmp_path / "clean" / "day" / "a.zarr")
    assert np.array_equal(pair.read(4).rgb, pair.read_clean(4).rgb)


def test_what_bioformats2raw_writes(tmp_path: Path) -> None:
    zarr.open_group(str(tmp_path / "b.zarr"), mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    write(tmp_path / "b.zarr" / "0", 2)
    assert len(Stack(tmp_path / "b.zarr")) == 6


def test_what_is_no_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    with pytest.raises(UserError, match=r"a Zarr group without an array"):
        Stack(tmp_path / "g.zarr")
    group.create_array("inside", data=VALUES[0, 0])
    with pytest.raises(UserError, match=r"a group without multiscales; name the array in it, such as .*inside"):
        Stack(tmp_path / "g.zarr")
    assert Stack(tmp_path / "g.zarr" / "inside").key(0) == "inside"
    (tmp_path / "g.zarr" / "inside" / "zarr.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot be read as Zarr by zarr \d.*; repair it"):
        Stack(tmp_path / "g.zarr" / "inside")
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(UserError, match=r"g\.zarr: a Zarr store; pip install 'atbsn\[zarr\]' to read it"):
        Stack(tmp_path / "g.zarr")
