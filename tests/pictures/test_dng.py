"""Mosaics of raw files: read as they are, packed, and written as DNG."""

import json
import shutil
import struct
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers.raw_files import BLACK, WHITE, linear, with_exif, write_dng, write_mosaic, write_uncompressed

from atbsn.pictures import Picture, check_target, exif, raw_size, read_raw, write_picture
from atbsn.pictures.mosaic import Mosaic, by_colour, pack, unpack
from atbsn.utils.errors import UserError

PHASES = {"RGGB": (0, 0), "GRBG": (0, 1), "GBRG": (1, 0), "BGGR": (1, 1)}
ACTIVE_AREA, CFA_DIMENSIONS, CFA_PATTERN, PHOTOMETRIC = 50829, 33421, 33422, 262
LINEAR = 34892
"""LinearRaw: every pixel has all samples."""


@pytest.fixture
def rawpy() -> ModuleType:
    return pytest.importorskip("rawpy")


def pattern(name: str) -> tuple[int, int, int, tuple[int, ...], bool]:
    """The tag CFAPattern."""
    return (CFA_PATTERN, 1, 4, tuple("RGB".index(letter) for letter in name), True)


def set_photometric(path: Path, value: int) -> None:
    """Which tifffile does not write with any number of samples."""
    data = bytearray(path.read_bytes())
    directories = exif.Directories(bytes(data))
    (entry,) = [entry for entry in directories.read(directories.first)[0] if entry.tag == PHOTOMETRIC]
    struct.pack_into("<H", data, entry.position + 8, value)
    path.write_bytes(data)


def levels(rng: np.random.Generator | None = None, height: int = 50, width: int = 62) -> np.ndarray:
    rng = np.random.default_rng(0) if rng is None else rng
    return rng.integers(BLACK - 100, WHITE, (height, width)).astype(np.uint16)


@pytest.mark.parametrize("size", [(8, 8), (9, 8), (8, 11), (9, 11)])
@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_packing_loses_nothing(phase: tuple[int, int], size: tuple[int, int]) -> None:
    values = np.arange(np.prod(size)).reshape(size)
    cells = pack(values, phase)
    assert np.array_equal(unpack(cells, phase, size), values)
    colours = pack(by_colour((1, 2, 3, 4), phase, size), phase)
    assert (colours == (1, 2, 3, 4)).all()  # what is reflected at the edges has its own colour


@pytest.mark.parametrize("name", PHASES)
def test_every_phase_becomes_red_green_green_blue(tmp_path: Path, rawpy: ModuleType, name: str) -> None:
    seen = {"R": 0.2, "G": 0.5, "B": 0.9}
    cell = np.array([BLACK + seen[letter] * (WHITE - BLACK) for letter in name]).reshape(2, 2)
    write_mosaic(tmp_path / "a.dng", np.tile(cell, (20, 30)).round().astype(np.uint16), (1, 1, 1), pattern(name))
    picture = read_raw(tmp_path / "a.dng")
    assert picture.mosaic.phase == PHASES[name] and picture.rgb.shape[:2] == raw_size(tmp_path / "a.dng")
    assert np.abs(picture.rgb - 255 * np.array([0.2, 0.5, 0.5, 0.9])).max() < 0.02


@pytest.mark.parametrize("area", [(0, 0, 50, 62), (2, 4, 48, 60), (3, 5, 50, 62), (2, 5, 49, 61)])
def test_black_is_taken_off_as_the_tags_say(tmp_path: Path, rawpy: ModuleType, area: tuple[int, int, int, int]) -> None:
    """Patterns of any size that begin at the active area, and offsets of rows and columns."""
    top, left, bottom, right = area
    rng = np.random.default_rng(0)
    pixels, columns, rows = rng.integers(400, 600, (4, 2)), rng.integers(0, 50, right - left), rng.integers(
        0, 50, bottom - top
    )  # fmt: skip
    black = np.tile(pixels, (13, 31))[: bottom - top, : right - left] + columns + rows[:, None]
    raw = np.zeros((50, 62), np.uint16)
    raw[top:bottom, left:right] = black + 3000
    write_mosaic(
        tmp_path / "a.dng", raw, (1, 1, 1), (ACTIVE_AREA, 4, 4, area, True),
        (50713, 3, 2, (4, 2), True), (50714, 3, 8, tuple(pixels.flatten()), True),
        (50715, 10, len(columns), tuple(part for value in columns for part in (value, 1)), True),
        (50716, 10, len(rows), tuple(part for value in rows for part in (value, 1)), True),
    )  # fmt: skip
    picture = read_raw(tmp_path / "a.dng")
    height, width = picture.mosaic.size
    assert min(height - (bottom - top), width - (right - left)) >= -1  # LibRaw begins at even rows and columns
    expected = 3000 / (WHITE - by_colour(picture.mosaic.black, picture.mosaic.phase, picture.mosaic.size)) * 255
    found = unpack(picture.rgb, picture.mosaic.phase, picture.mosaic.size)
    assert np.abs(found - expected).max() < 0.01


def test_noise_below_black_and_above_white_stays(tmp_path: Path, rawpy: ModuleType) -> None:
    raw = levels()
    write_mosaic(tmp_path / "a.dng", raw)
    found = unpack(read_raw(tmp_path / "a.dng").rgb, (0, 0), raw.shape)
    assert found.min() < 0 and np.allclose(found, (raw - float(BLACK)) * 255 / (WHITE - BLACK))


def developed(rawpy: Any, path: Path) -> np.ndarray:
    with rawpy.imread(str(path)) as raw:
        return raw.postprocess(use_camera_wb=True, no_auto_bright=True, adjust_maximum_thr=0, output_bps=16)


@pytest.mark.parametrize("area", [(0, 0, 96, 128), (2, 4, 95, 127), (3, 5, 96, 128)])
@pytest.mark.parametrize("name", PHASES)
def test_a_dng_of_the_same_mosaic_develops_alike(
    tmp_path: Path, rawpy: ModuleType, name: str, area: tuple[int, int, int, int]
) -> None:
    rng = np.random.default_rng(0)
    noisy = linear() + rng.normal(0, 0.02, (96, 128, 3))
    own = [pattern(name), (ACTIVE_AREA, 4, 4, area, True)]
    write_dng(tmp_path / "a.dng", noisy.clip(0, 1), orientation=6, extra=own)
    picture = read_raw(tmp_path / "a.dng")
    write_picture(tmp_path / "b.dng", picture)
    before, after = (developed(rawpy, tmp_path / name) for name in ("a.dng", "b.dng"))
    assert before.shape == after.shape and np.abs(before.astype(int) - after).max() < 64  # of 65535
    with rawpy.imread(str(tmp_path / "a.dng")) as old, rawpy.imread(str(tmp_path / "b.dng")) as new:
        assert np.array_equal(old.raw_pattern, new.raw_pattern) and old.sizes.flip == new.sizes.flip
        assert old.raw_image_visible.shape == new.raw_image.shape
    again = read_raw(tmp_path / "b.dng")
    assert np.array_equal(again.rgb, picture.rgb) and again.mosaic.size == picture.mosaic.size


MAKERS = {
    "nef": ("NIKON CORPORATION", "NIKON D70", "BGGR", (1200, 1800)),  # of which the last column is none
    "pef": ("PENTAX", "PENTAX K10D", "GRBG", (120, 180)),
    "arw": ("SONY", "DSLR-A700", "RGGB", (120, 180)),
    "srw": ("SAMSUNG", "NX10", "GBRG", (120, 180)),
}


@pytest.mark.parametrize("suffix", MAKERS)
def test_what_makers_keep_in_tiff_develops_alike(tmp_path: Path, rawpy: ModuleType, suffix: str) -> None:
    maker, model, name, size = MAKERS[suffix]
    values = np.random.default_rng(0).integers(500, 4000, size).astype(np.uint16)
    source, made = tmp_path / f"a.{suffix}", tmp_path / "b.dng"
    write_uncompressed(source, values, maker, model, pattern(name))
    picture = read_raw(source)
    assert raw_size(source) == picture.rgb.shape[:2]
    write_picture(made, picture)
    how = {"demosaic_algorithm": rawpy.DemosaicAlgorithm.LINEAR, "user_wb": [1, 1, 1, 1], "no_auto_bright": True}
    both = []
    for path in (source, made):
        with rawpy.imread(str(path)) as raw:
            both.append(raw.postprocess(**how).astype(int))
    assert both[0].shape == both[1].shape and np.abs(both[0] - both[1]).max() <= 1
    assert picture.mosaic.phase == PHASES[name]


def test_pixels_that_are_not_square_stay_so(tmp_path: Path, rawpy: ModuleType) -> None:
    """Of a Nikon D1X they are twice as high as wide: without a word the developed picture has half its height."""
    values = np.random.default_rng(0).integers(500, 4000, (1324, 4028)).astype(np.uint16)
    write_uncompressed(tmp_path / "a.nef", values, "NIKON CORPORATION", "NIKON D1X")
    write_picture(tmp_path / "b.dng", read_raw(tmp_path / "a.nef"))
    sizes = []
    for name in ("a.nef", "b.dng"):
        with rawpy.imread(str(tmp_path / name)) as raw:
            sizes.append((raw.sizes.height, raw.sizes.width, raw.sizes.pixel_aspect))
    assert sizes[0] == sizes[1] == (1324, 4024, 0.5)


def test_levels_between_those_of_the_file_are_kept(tmp_path: Path, rawpy: ModuleType) -> None:
    """A denoised 10-bit raw has finer steps than its file had."""
    cells = np.linspace(0, 255, 20 * 30 * 4).reshape(20, 30, 4).astype(np.float32)
    write_picture(tmp_path / "a.dng", Picture(cells, mosaic=Mosaic((40, 60), (0, 0), (60, 64, 65, 63.5), 1023)))
    found = read_raw(tmp_path / "a.dng")
    assert np.abs(found.rgb - cells).max() < 0.6 * 255 / 65535 * 1024 / 960 + 1e-4
    assert found.mosaic.white == 1023 * 64 and found.mosaic.black[3] == 63.5 * 64


def test_what_a_raw_says_is_kept(tmp_path: Path, rawpy: ModuleType) -> None:
    write_dng(
        tmp_path / "a.dng", linear(), orientation=8,
        extra=[(700, 1, 9, b"<x:xmpmeta", True), (50730, 10, 1, (1, 2), True), (51041, 12, 2, (1e-3, 1e-6), True)],
    )  # fmt: skip
    iso = exif.DirectoryEntry(34855, 3, 1, struct.pack("<H", 3200))
    with_exif(tmp_path / "a.dng", {exif.EXIF: (iso,), exif.GPS: (exif.DirectoryEntry(1, 2, 2, b"N\0"),)})
    write_picture(tmp_path / "b.dng", read_raw(tmp_path / "a.dng"))
    data = (tmp_path / "b.dng").read_bytes()
    directories = exif.Directories(data)
    found = {entry.tag: entry for entry in directories.read(directories.first)[0]}
    assert [child[:4] for child in found[exif.EXIF].children] == [iso[:4]] and found[exif.GPS].children
    assert found[271].value == b"Maker\0" and found[274].value[:1] == b"\x08" and found[50730].value[:1] == b"\x01"
    assert found[50708].value == b"Maker Camera\0" and found[exif.XMP].value.startswith(b"<x:xmp")
    assert 51041 not in found  # NoiseProfile: the noise is no longer so


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="needs exiftool")
def test_exiftool_finds_nothing_wrong(tmp_path: Path, rawpy: ModuleType) -> None:
    write_dng(tmp_path / "a.dng", linear(), orientation=6, extra=[pattern("GRBG")])
    with_exif(tmp_path / "a.dng", {exif.EXIF: (exif.DirectoryEntry(34855, 3, 1, struct.pack("<H", 3200)),)})
    write_picture(tmp_path / "b.dng", read_raw(tmp_path / "a.dng"))
    asked = ["exiftool", "-json", "-validate", "-a", "-warning", "-error", "-ISO", "-Model", "-CFAPattern", "-FileType"]
    result = subprocess.run([*asked, tmp_path / "b.dng"], capture_output=True, check=True, text=True)
    (told,) = json.loads(result.stdout)
    assert told["FileType"] == "DNG" and told["ISO"] == 3200 and told["Model"] == "Camera"
    assert not {key: value for key, value in told.items() if key in ("Warning", "Error")}, told


@pytest.mark.parametrize(
    ("reason", "how"),
    [
        ("X-Trans: every 6 x 6 pixels", {"dimensions": 6}),
        ("no colours", {"samples": 1}),
        ("all colours: .* a linear DNG", {"samples": 3}),
        ("its mosaic is GRGB, not", {"cells": "GRGB"}),
    ],
)
def test_other_sensors_are_refused(tmp_path: Path, rawpy: ModuleType, reason: str, how: dict[str, Any]) -> None:
    raw, own = levels(), []
    if "dimensions" in how:
        trans = "GBGGRGRGRBGBGBGGRGGRGGBGBGBRGRGRGGBG"
        own = [(CFA_DIMENSIONS, 3, 2, (6, 6), True), (CFA_PATTERN, 1, 36, tuple(map("RGB".index, trans)), True)]
    if "cells" in how:
        own = [pattern(how["cells"])]
    write_mosaic(tmp_path / "a.dng", np.dstack([raw] * how.get("samples", 1)).squeeze(), (0.5, 1, 0.7), *own)
    if "samples" in how:
        set_photometric(tmp_path / "a.dng", LINEAR)
    for read in (read_raw, raw_size):
        with pytest.raises(UserError, match=rf"a\.dng: .*{reason}.*; denoise the developed picture"):
            read(tmp_path / "a.dng")


def test_what_is_no_raw(tmp_path: Path, rawpy: ModuleType) -> None:
    (tmp_path / "a.dng").write_bytes(b"")
    (tmp_path / "b.nef").write_bytes(b"no raw")
    for name in ("a.dng", "b.nef", "none.cr2"):
        with pytest.raises(UserError, match=name):
            read_raw(tmp_path / name)
    write_mosaic(tmp_path / "c.dng", levels(), (0.5, 1, 0.7), (50714, 3, 1, WHITE, True))
    with pytest.raises(UserError, match=r"its black level 16383 is not below its white level 16383"):
        read_raw(tmp_path / "c.dng")


def test_a_mosaic_is_only_written_as_dng(tmp_path: Path) -> None:
    picture = Picture(np.zeros((20, 30, 4), np.float32), mosaic=Mosaic((40, 60), (0, 0), (0, 0, 0, 0), 1023))
    with pytest.raises(UserError, match=r"a\.tif: the mosaic .* is written as DNG; name a \.dng file"):
        write_picture(tmp_path / "a.tif", picture)
    with pytest.raises(UserError, match=r"a\.dng: camera RAW is not written; write TIFF"):
        check_target(tmp_path / "a.dng", Picture(np.zeros((40, 60, 3), np.uint8)))
    assert not list(tmp_path.iterdir())
