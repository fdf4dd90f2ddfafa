"""Colours by numbers and by gamma come through every format, as numbers, as a profile or with a word."""

import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from atbsn.pictures import Picture, boxes, colour, read_picture, write_picture
from atbsn.pictures.icc import SRGB, Curve, grey_profile, rgb_profile
from atbsn.pictures.metadata import CodePoints, Metadata

SRGB_PRIMARIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
P3, PQ, HLG = CodePoints(12, 13), CodePoints(12, 16), CodePoints(9, 18)
RGB = np.stack([*np.mgrid[40:168:4, 40:184:3], np.full((32, 48), 90)], axis=2).astype(np.uint8)


def shown(rgb: np.ndarray, icc: bytes) -> np.ndarray:
    """What Little CMS makes of it on an sRGB screen."""
    image = Image.fromarray(rgb)
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(image, source, target, outputMode="RGB")).astype(int)


def test_a_profile_of_srgb_changes_nothing() -> None:
    icc = rgb_profile("sRGB", (0.64, 0.33), (0.3, 0.6), (0.15, 0.06), (0.3127, 0.329), SRGB)
    assert np.abs(shown(RGB, icc) - RGB).max() <= 1
    assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).strip() == "sRGB"


def test_a_profile_of_display_p3_means_its_colours() -> None:
    """Of (100, 150, 90): linear light through P3's matrix and the inverse of sRGB's, by hand (CSS Color 4, 10.3)."""
    icc, _ = colour.profile(Metadata(cicp=P3), grey=False)
    to_srgb = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
    light = ((RGB / 255 + 0.055) / 1.055) ** 2.4
    expected = 1.055 * np.clip(light @ to_srgb.T, 0, 1) ** (1 / 2.4) - 0.055
    inside = ((light @ to_srgb.T > 0.01) & (light @ to_srgb.T < 0.99)).all(axis=2)
    assert np.abs(shown(RGB, icc) / 255 - expected)[inside].max() < 0.012


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.6])
def test_a_grey_profile_means_its_gamma(gamma: float) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    seen = shown(grey, grey_profile("grey", (0.3127, 0.329), Curve(gamma)))
    expected = 255 * (1.055 * np.maximum((grey / 255) ** gamma, 0.0031308) ** (1 / 2.4) - 0.055)
    assert np.abs(seen - expected[..., None])[4:].max() <= 1.5


def png(path: Path, chunks: list[tuple[bytes, bytes]], depth: int = 8, grey: bool = False) -> None:
    values = (RGB.astype(np.uint16) * 257).astype(">u2") if depth == 16 else RGB
    values = values[..., :1] if grey else values
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", RGB.shape[1], RGB.shape[0], depth, 0 if grey else 2, 0, 0, 0)
    body = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"".join(struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in body)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


@pytest.fixture(params=["cicp.png", "nclx.heic", "nclx.avif"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    """A file of every format that says colours by numbers; ``source(points)`` writes it."""
    if request.param.endswith("heic"):
        pytest.importorskip("pillow_heif")
    if request.param.endswith("avif"):
        pytest.importorskip("PIL._avif")

    def write(points: CodePoints, depth: int = 8) -> Path:
        path = tmp_path / request.param
        if path.suffix == ".png":
            png(path, [(b"cICP", bytes([points.primaries, points.transfer, 0, 1]))], depth)
        else:
            write_picture(path, Picture(RGB, cicp=points), quality=95)
        return path

    return write


@pytest.mark.parametrize("points", [P3, PQ, HLG])
@pytest.mark.parametrize("target", ["b.png", "b.heic", "b.avif"])
def test_numbers_go_from_format_to_format(
    tmp_path: Path, source: str, points: CodePoints, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = source(points)
    with caplog.at_level("WARNING", "atbsn"):
        picture = read_picture(path)
    assert (picture.cicp.primaries, picture.cicp.transfer) == points[:2]
    hdr = {16: "PQ", 18: "HLG"}.get(points.transfer)
    assert (f"its colours are {hdr}, of high dynamic range, and are taken as" in caplog.text) == bool(hdr)
    caplog.clear()
    write_picture(tmp_path / target, picture)
    assert not caplog.text
    again = read_picture(tmp_path / target)
    assert (again.cicp.primaries, again.cicp.transfer) == points[:2]
    assert np.abs(again.rgb.astype(int) - picture.rgb).mean() < 8


@pytest.mark.parametrize("target", ["b.jpg", "b.tif", "b.webp"])
def test_numbers_become_a_profile(tmp_path: Path, source: str, target: str, caplog: pytest.LogCaptureFixture) -> None:
    picture = read_picture(source(P3))
    with caplog.at_level("WARNING", "atbsn"):
        write_picture(tmp_path / target, picture)
    again = read_picture(tmp_path / target)
    assert again.icc == colour.profile(Metadata(cicp=P3), grey=False)[0]
    assert again.cicp is None and not caplog.text


@pytest.mark.parametrize("target", ["b.jpg", "b.tif", "b.webp", "b.bmp"])
@pytest.mark.parametrize(("points", "name"), [(PQ, "PQ of Display P3"), (HLG, "HLG of BT.2020")])
def test_what_cannot_be_said_is_told(
    tmp_path: Path, source: str, target: str, points: CodePoints, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    picture = read_picture(source(points))
    with caplog.at_level("WARNING", "atbsn"):
        write_picture(tmp_path / target, picture)
    if target != "b.bmp":
        said = re.search(rf"its colours \({re.escape(name)}\) cannot be said in it; (.*) can say them", caplog.text)
        able = said[1].replace(" and ", ", ").split(", ") if said else []
        assert {"AVIF", "HEIC", "PNG"} <= set(able) and not {"BMP", "JPEG", "TIFF", "WebP"} & set(able)
        assert read_picture(tmp_path / target).icc is None
    else:
        assert "BMP: its colour profile is left out" in caplog.text


def test_srgb_by_numbers_needs_no_profile(tmp_path: Path, source: str, caplog: pytest.LogCaptureFixture) -> None:
    for points in (CodePoints(1, 13), CodePoints(1, 1), CodePoints(2, 2)):
        picture = read_picture(source(points))
        with caplog.at_level("WARNING", "atbsn"):
            write_picture(tmp_path / "b.jpg", picture)
        assert read_picture(tmp_path / "b.jpg").icc is None and not caplog.text


def test_sixteen_bits_keep_their_numbers(tmp_path: Path) -> None:
    png(tmp_path / "a.png", [(b"cICP", bytes([12, 16, 0, 1]))], depth=16)
    picture = read_picture(tmp_path / "a.png")
    write_picture(tmp_path / "b.png", picture)
    again = read_picture(tmp_path / "b.png")
    assert again.cicp == picture.cicp == PQ and np.array_equal(again.rgb, picture.rgb)


def test_gamma_and_primaries_of_a_png_become_a_profile(tmp_path: Path) -> None:
    primaries = [31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000]
    chunks = [(b"gAMA", struct.pack(">I", 55556)), (b"cHRM", struct.pack(">8I", *primaries))]
    png(tmp_path / "a.png", chunks)
    picture = read_picture(tmp_path / "a.png")
    write_picture(tmp_path / "b.png", picture)
    assert read_picture(tmp_path / "b.png").notes == picture.notes
    write_picture(tmp_path / "b.jpg", picture)
    icc = read_picture(tmp_path / "b.jpg").icc
    points = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), (0.3127, 0.329))
    expected = rgb_profile("x", *points, Curve(1.8))
    assert np.abs(shown(RGB, icc) - shown(RGB, expected)).max() <= 1
    assert np.abs(shown(RGB, icc) - RGB).max() > 8


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [(b"gAMA", struct.pack(">I", 45455))],
        [(b"gAMA", struct.pack(">I", 45450)), (b"cHRM", struct.pack(">8I", *SRGB_PRIMARIES))],
        [(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100000))],
        [(b"gAMA", bytes(4))],
        [(b"cHRM", bytes(32))],
        [(b"cHRM", struct.pack(">8I", *[31270, 32900] * 4))],
    ],
)  # fmt: skip
def test_a_png_of_srgb_or_of_nonsense_needs_no_profile(tmp_path: Path, chunks: list[Any]) -> None:
    png(tmp_path / "a.png", chunks)
    write_picture(tmp_path / "b.jpg", read_picture(tmp_path / "a.png"))
    assert read_picture(tmp_path / "b.jpg").icc is None


def test_gamma_of_grey(tmp_path: Path) -> None:
    png(tmp_path / "a.png", [(b"gAMA", struct.pack(">I", 100000))], grey=True)
    write_picture(tmp_path / "b.tif", read_picture(tmp_path / "a.png"))
    icc = read_picture(tmp_path / "b.tif").icc
    assert abs(int(shown(np.full((4, 4), 128, np.uint8), icc)[0, 0, 0]) - 188) <= 1


def test_ten_bits_of_avif_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("PIL._avif")
    write_picture(tmp_path / "a.avif", Picture(RGB))
    data = bytearray((tmp_path / "a.avif").read_bytes())
    assert boxes.facts(bytes(data)).bits == 8
    data[data.index(b"pixi") + 9] = 10
    facts = boxes.facts(bytes(data))
    assert facts.bits == 10
    monkeypatch.setattr(boxes, "facts", lambda data: facts)
    with caplog.at_level("WARNING", "atbsn"):
        read_picture(tmp_path / "a.avif")
    assert "its 10 bits are read as 8" in caplog.text


def test_damaged_boxes_say_nothing(tmp_path: Path) -> None:
    pytest.importorskip("PIL._avif")
    write_picture(tmp_path / "a.avif", Picture(RGB, cicp=PQ))
    data = (tmp_path / "a.avif").read_bytes()
    assert boxes.facts(data).cicp[:2] == PQ[:2]
    for end in range(0, 400, 3):
        boxes.facts(data[:end])
    for position in range(min(400, len(data))):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        boxes.facts(bytes(damaged))


def test_a_profile_in_a_bmp_is_read(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.bmp", Picture(RGB))
    data = (tmp_path / "a.bmp").read_bytes()
    icc = rgb_profile("P3", (0.68, 0.32), (0.265, 0.69), (0.15, 0.06), (0.3127, 0.329), SRGB)
    pixels = data[54:]
    header = struct.pack("<IiiHHIIiiII", 124, RGB.shape[1], RGB.shape[0], 1, 24, 0, len(pixels), 0, 0, 0, 0)
    header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0) + b"DEBM" + bytes(48)
    header += struct.pack("<IIII", 4, 124 + len(pixels), len(icc), 0)
    assert len(header) == 124
    front = b"BM" + struct.pack("<IHHI", 14 + 124 + len(pixels) + len(icc), 0, 0, 14 + 124)
    (tmp_path / "b.bmp").write_bytes(front + header + pixels + icc)
    picture = read_picture(tmp_path / "b.bmp")
    assert np.array_equal(picture.rgb, RGB) and picture.icc == icc
