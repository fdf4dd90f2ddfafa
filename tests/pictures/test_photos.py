"""HEIC, AVIF and camera RAW: the extra ``[photos]``."""

import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers.metadata import ICC, XMP, camera_block, directories, values
from helpers.raw_files import linear, with_exif, write_dng
from PIL import Image

from atbsn.pictures import (
    Picture,
    exif,
    find_pictures,
    image_paths,
    picture_size,
    read_picture,
    write_picture,
    written_name,
)
from atbsn.pictures.colour import srgb_profile
from atbsn.pictures.formats import heif, raw
from atbsn.pictures.metadata import Samples
from atbsn.utils.errors import UserError

RNG = np.random.default_rng(0)


def srgb(values: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1's curve."""
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * np.abs(values) ** (1 / 2.4) - 0.055)


@pytest.fixture
def library() -> ModuleType:
    return pytest.importorskip("pillow_heif")


@pytest.fixture
def developer() -> ModuleType:
    return pytest.importorskip("rawpy")


@pytest.fixture
def avif() -> None:
    pytest.importorskip("PIL._avif")


@pytest.mark.parametrize("neutral", [(0.5, 1.0, 0.7), (0.9, 1.0, 0.4)])
def test_raw_is_developed_to_srgb_with_the_cameras_white_balance(
    tmp_path: Path, developer: ModuleType, neutral: tuple[float, float, float]
) -> None:
    write_dng(tmp_path / "a.dng", linear(), neutral)
    picture = read_picture(tmp_path / "a.dng")
    assert (picture.rgb.dtype, picture.suffix, picture.grey, picture.alpha) == (np.uint16, ".tif", False, None)
    assert picture.icc == srgb_profile()
    error = np.abs(picture.rgb / 65535 - srgb(linear()))[4:-4, 4:-4]
    assert error.max() < 1e-3


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_raw_is_turned_upright_once(tmp_path: Path, developer: ModuleType, orientation: int) -> None:
    write_dng(tmp_path / "a.dng", linear(), orientation=orientation)
    picture = read_picture(tmp_path / "a.dng")
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    expected = np.rot90(srgb(linear()), turns)
    assert picture_size(tmp_path / "a.dng") == picture.rgb.shape[:2] == expected.shape[:2]
    assert np.abs(picture.rgb / 65535 - expected)[4:-4, 4:-4].max() < 1e-3
    write_picture(tmp_path / "a.tif", picture)
    assert np.array_equal(read_picture(tmp_path / "a.tif").rgb, picture.rgb)


def test_raw_becomes_a_tiff_with_its_exif_and_gps(tmp_path: Path, developer: ModuleType) -> None:
    entries = {item.tag: item.children for item in directories("<") if item.children is not None}
    write_dng(tmp_path / "a.NEF", linear(), extra=[(700, 1, len(XMP), XMP, True)])
    with_exif(tmp_path / "a.NEF", entries)
    picture = read_picture(tmp_path / "a.NEF")
    assert written_name(tmp_path / "a.NEF", picture) == tmp_path / "a.tif"
    write_picture(tmp_path / "a.tif", picture)
    again = read_picture(tmp_path / "a.tif")
    assert np.array_equal(again.rgb, picture.rgb)
    assert (again.icc, again.xmp) == (srgb_profile(), XMP)
    expected = {key: value for key, value in values(camera_block("<")).items() if key[0] != 0 and key[1] != 37500}
    found = values(again.exif)
    assert {key: value for key, value in found.items() if key[0] != 0} == expected
    assert bytes(found[0, 272][2]) == b"Camera\0"
    with pytest.raises(UserError, match=r"b\.nef: camera RAW is not written; write TIFF"):
        write_picture(tmp_path / "b.nef", picture)


def test_a_dng_by_the_name_of_a_tiff_is_developed(tmp_path: Path, developer: ModuleType) -> None:
    write_dng(tmp_path / "a.dng", linear())
    (tmp_path / "a.dng").rename(tmp_path / "a.tif")
    assert read_picture(tmp_path / "a.tif").rgb.shape == (96, 128, 3)
    assert picture_size(tmp_path / "a.tif") == (96, 128)


def test_damaged_raw_is_refused(tmp_path: Path, developer: ModuleType) -> None:
    write_dng(tmp_path / "a.dng", linear())
    data = (tmp_path / "a.dng").read_bytes()
    for name, damaged in (("half.dng", data[: len(data) // 2]), ("text.cr2", b"text"), ("empty.nef", b"")):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{name}: cannot be read as a picture \(.+\); repair or remove it"):
            read_picture(tmp_path / name)


def test_raw_that_claims_any_size_is_refused(tmp_path: Path, developer: ModuleType) -> None:
    write_dng(tmp_path / "a.dng", linear())
    data = bytearray((tmp_path / "a.dng").read_bytes())
    found = exif.Directories(bytes(data))
    for entry in found.read(found.first)[0]:
        if entry.tag in (256, 257, 278):
            data[entry.position + 2 : entry.position + 12] = struct.pack("<HII", 4, 1, 60_000)
    (tmp_path / "a.dng").write_bytes(data)
    for read in (read_picture, picture_size):
        with pytest.raises(UserError, match=r"a\.dng: .*(is over the limit|cannot be read)"):
            read(tmp_path / "a.dng")


def test_exif_of_a_fuji_is_in_its_preview(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "preview.jpg", exif=camera_block())
    preview = (tmp_path / "preview.jpg").read_bytes()
    data = b"FUJIFILMCCD-RAW".ljust(84, b"\0") + struct.pack(">II", 100, len(preview))
    found = values(raw.raw_exif(data.ljust(100, b"\0") + preview))
    expected = {
        key: value for key, value in values(camera_block()).items() if key not in ((0, 274), (exif.EXIF, 37500))
    }
    assert found == expected


def test_exif_of_a_cr3_is_in_boxes() -> None:
    def box(kind: bytes, entries: list[exif.DirectoryEntry]) -> bytes:
        body = b"II*\0\x08\0\0\0" + exif.directory(entries, "<", 8)
        return struct.pack(">I", 8 + len(body)) + kind + body

    entries = directories("<")
    children = {item.tag: list(item.children) for item in entries if item.children is not None}
    data = struct.pack(">I", 24) + b"ftypcrx " + bytes(12)
    data += box(b"CMT1", [item for item in entries if item.children is None])
    data += box(b"CMT2", children[exif.EXIF]) + box(b"CMT4", children[exif.GPS])
    expected = {
        key: value for key, value in values(camera_block("<")).items() if key not in ((0, 274), (exif.EXIF, 37500))
    }
    assert values(raw.raw_exif(data)) == expected


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_heic_keeps_depth_grey_alpha_and_metadata(
    tmp_path: Path, library: ModuleType, dtype: str, transparent: bool, grey: bool
) -> None:
    top = np.iinfo(dtype).max
    rgb = (linear(48, 64) * top).astype(dtype)
    if grey:
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
    alpha = rgb[..., 0].copy() if transparent else None
    picture = Picture(rgb, alpha, grey, icc=ICC, exif=camera_block(), xmp=XMP)
    write_picture(tmp_path / "a.heic", picture, quality=100)
    again = read_picture(tmp_path / "a.heic")
    assert (again.rgb.dtype, again.grey, again.suffix) == (dtype, grey, ".heic")
    assert (again.icc, again.exif, again.xmp) == (ICC, camera_block(), XMP)
    assert np.abs(again.rgb.astype(int) - rgb).max() <= 0.02 * top
    assert (again.alpha is not None) == transparent
    if transparent:
        assert np.abs(again.alpha.astype(int) - alpha).max() <= 0.02 * top
    assert picture_size(tmp_path / "a.heic") == (48, 64)


def test_heic_of_a_phone(tmp_path: Path, library: ModuleType) -> None:
    """Turned by the container, with an EXIF orientation that is not to be applied once more."""
    rgb = (linear(48, 64) * 255).astype(np.uint8)
    image = library.from_bytes("RGB", (64, 48), rgb.tobytes())
    image.info["exif"] = camera_block(orientation=6, thumbnail=b"\xff\xd8 old \xff\xd9")
    image.info["xmp"] = XMP
    image.save(tmp_path / "a.HEIC", quality=100, chroma=444)
    picture = read_picture(tmp_path / "a.HEIC")
    assert picture.rgb.shape == (64, 48, 3)
    assert picture_size(tmp_path / "a.HEIC") == (64, 48)
    assert np.abs(picture.rgb.astype(int) - np.rot90(rgb, 3)).max() <= 5
    assert exif.orientation(picture.exif) == 1
    assert picture.coding.subsampling == 0
    for name in ("b.HEIC", "b.tif", "b.jpg"):
        write_picture(tmp_path / name, picture)
        again = read_picture(tmp_path / name)
        assert again.rgb.shape == (64, 48, 3)
        assert again.xmp == XMP
        assert values(again.exif)[exif.GPS, 29] == values(picture.exif)[exif.GPS, 29]


def test_ten_bits_of_heic_survive(tmp_path: Path, library: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one of the 1024 levels is what it was, white is white, and reading is exact."""
    levels = np.arange(1024).repeat(64).reshape(256, 256)
    sixteen = (levels << 6 | levels >> 4).astype(np.uint16)
    library.encode("L;16", (256, 256), (levels << 6).astype(np.uint16).tobytes(), tmp_path / "a.heic", quality=-1)
    picture = read_picture(tmp_path / "a.heic")
    assert np.array_equal(picture.rgb[..., 0], sixteen)
    given = []

    def encode(mode: str, size: tuple[int, int], data: bytes, file: Any, **options: Any) -> None:
        given.append(np.frombuffer(data, np.uint16).reshape(256, 256))

    monkeypatch.setattr(library, "encode", encode)
    heif.CODEC.encode(Samples(picture.rgb[..., :1]), picture, None)
    assert np.array_equal(given[0], levels << 6)


def test_of_several_pictures_in_a_heic_one_is_read(
    tmp_path: Path, library: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    file = library.HeifFile()
    for value, size in ((0, (64, 48)), (128, (48, 64)), (255, (64, 64))):
        file.add_frombytes("RGB", size, bytes([value]) * size[0] * size[1] * 3)
    file.save(tmp_path / "a.heic", primary_index=1)
    with caplog.at_level("WARNING", "atbsn"):
        assert abs(int(read_picture(tmp_path / "a.heic").rgb[0, 0, 0]) - 128) <= 2
    assert "a HEIF of 3 pictures: only number 2 is used; --page takes another" in caplog.text
    assert picture_size(tmp_path / "a.heic") == (64, 48)
    caplog.clear()
    assert read_picture(tmp_path / "a.heic", page=3).rgb.shape == (64, 64, 3)
    assert picture_size(tmp_path / "a.heic", page=1) == (48, 64)
    assert not caplog.text
    with pytest.raises(UserError, match=r"a HEIF of 3 pictures has no page 4\); give --page 1 to 3"):
        read_picture(tmp_path / "a.heic", page=4)


def test_damaged_heic_is_refused(tmp_path: Path, library: ModuleType) -> None:
    write_picture(tmp_path / "a.heic", Picture((linear() * 255).astype(np.uint8)))
    data = (tmp_path / "a.heic").read_bytes()
    for kept in (0, 0.1, 0.5, 0.9):
        (tmp_path / "b.heic").write_bytes(data[: int(len(data) * kept)])
        with pytest.raises(UserError, match=r"b\.heic: cannot be read as a picture \(.+\); repair or remove it"):
            read_picture(tmp_path / "b.heic")


def test_heic_over_the_limit_is_refused(tmp_path: Path, library: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "a.heic", Picture((linear() * 255).astype(np.uint8)))
    monkeypatch.setattr("atbsn.pictures.metadata.MAX_PIXELS", 1000)
    for read in (read_picture, picture_size):
        with pytest.raises(
            UserError,
            match=r"a\.heic: cannot be read as a picture \(128x96 is over the limit of 1000 pixels\); make it smaller",
        ):
            read(tmp_path / "a.heic")


def test_a_heic_by_the_name_of_a_jpeg_is_read(tmp_path: Path, library: ModuleType) -> None:
    write_picture(tmp_path / "a.heic", Picture((linear() * 255).astype(np.uint8)))
    (tmp_path / "a.heic").rename(tmp_path / "a.jpg")
    picture = read_picture(tmp_path / "a.jpg")
    write_picture(tmp_path / "b.jpg", picture)
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.format == "JPEG"


@pytest.mark.parametrize("transparent", [False, True])
def test_avif_keeps_alpha_and_metadata(tmp_path: Path, avif: None, transparent: bool) -> None:
    rgb = (linear(48, 64) * 255).astype(np.uint8)
    picture = Picture(rgb, rgb[..., 0].copy() if transparent else None, icc=ICC, exif=camera_block(), xmp=XMP)
    write_picture(tmp_path / "a.avif", picture, quality=95)
    again = read_picture(tmp_path / "a.avif")
    assert (again.icc, again.xmp, again.suffix) == (ICC, XMP, ".avif")
    expected = {key: value for key, value in values(camera_block()).items() if key != (0, 274)}
    found = {key: value for key, value in values(again.exif).items() if key != (0, 274)}
    assert {key: found.get(key) for key in expected} == expected
    assert np.abs(again.rgb.astype(int) - rgb).max() <= 12
    assert (again.alpha is not None) == transparent
    assert picture_size(tmp_path / "a.avif") == (48, 64)


@pytest.mark.parametrize("orientation", [3, 6])
def test_avif_is_turned_upright_once(tmp_path: Path, avif: None, orientation: int) -> None:
    rgb = (linear(48, 64) * 255).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.avif", quality=95, exif=camera_block(orientation=orientation))
    expected = np.rot90(rgb, {3: 2, 6: 3}[orientation])
    picture = read_picture(tmp_path / "a.avif")
    assert picture_size(tmp_path / "a.avif") == picture.rgb.shape[:2] == expected.shape[:2]
    assert np.abs(picture.rgb.astype(int) - expected).max() <= 12
    write_picture(tmp_path / "b.avif", picture)
    assert read_picture(tmp_path / "b.avif").rgb.shape == expected.shape


HEADS = {
    "a.heic": ("pillow_heif", b"\0\0\0\x18ftypheic" + bytes(12)),
    "a.avif": ("PIL._avif", b"\0\0\0\x18ftypavif" + bytes(12)),
    "a.nef": ("rawpy", b"II*\0\x08\0\0\0"),
    "a.CR3": ("rawpy", b"\0\0\0\x18ftypcrx " + bytes(12)),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_missing_library_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    module, head = HEADS[name]
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(head)
    for read in (read_picture, picture_size):
        with pytest.raises(
            UserError,
            match=rf'{name}: cannot be read as a picture \(.* needs the package .*\); pip install "atbsn\[photos\]"',
        ):
            read(tmp_path / name)
    assert image_paths(tmp_path) == [tmp_path / name]
    found = find_pictures(tmp_path)
    assert found.paths == []
    assert found.skipped == [(tmp_path / name, 'needs more libraries; pip install "atbsn[photos]"')]


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
def test_writing_without_the_library_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setitem(sys.modules, {".heic": "pillow_heif", ".avif": "PIL._avif"}[suffix], None)
    with pytest.raises(
        UserError, match=rf'a{suffix}: cannot be written \(.* needs the package .*\); pip install "atbsn\[photos\]"'
    ):
        write_picture(tmp_path / f"a{suffix}", Picture(np.zeros((8, 8, 3), np.uint8)))
    assert not list(tmp_path.iterdir())


def test_the_libraries_are_imported_only_when_such_a_file_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pillow_heif", "rawpy", "PIL._avif"):
        monkeypatch.setitem(sys.modules, module, None)
    rgb = (linear() * 255).astype(np.uint8)
    for suffix in (".png", ".jpg", ".tif", ".bmp", ".webp"):
        write_picture(tmp_path / f"a{suffix}", Picture(rgb))
        assert read_picture(tmp_path / f"a{suffix}").rgb.shape == rgb.shape


def test_the_dng_of_these_tests_is_one(tmp_path: Path) -> None:
    """What is developed above is a mosaic with the tags a camera writes, not a picture in disguise."""
    write_dng(tmp_path / "a.dng", linear())
    with tifffile.TiffFile(tmp_path / "a.dng") as file:
        page = file.pages[0]
        assert (page.photometric, page.samplesperpixel, page.dtype) == (32803, 1, np.uint16)
        assert page.tags["UniqueCameraModel"].value == "Maker Camera"
