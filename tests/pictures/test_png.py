"""PNGs of few bits with a transparent grey, with damaged chunks, and with ImageMagick's texts for metadata."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atbsn.pictures import exif, picture_size, read_picture, write_picture
from atbsn.pictures.chunks import chunk, walk
from atbsn.utils.errors import UserError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (12, 20, 3), np.uint8)


def png(values: np.ndarray, bits: int, colours: int, before: bytes = b"", behind: bytes = b"") -> bytes:
    """(H, W, C) as a PNG of ``bits`` whose colour type is ``colours``, with chunks before and behind its pixels."""
    height, width = values.shape[:2]
    flat = values.reshape(height, -1)
    if bits < 8:
        rows = np.packbits(
            ((flat[..., None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8).reshape(height, -1), axis=1
        )
    else:
        rows = flat.astype(">u2" if bits == 16 else np.uint8).view(np.uint8)
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", pixels) + behind + chunk(b"IEND", b"")
    )


def damaged(whole: bytes) -> bytes:
    """A chunk with another checksum."""
    return whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("beyond", [0, 0x4000])
def test_the_transparent_grey_of_few_bits(tmp_path: Path, bits: int, beyond: int) -> None:
    """The key is a sample as stored; bits of it beyond the depth mean nothing."""
    grey = RNG.integers(0, 2**bits, (12, 21, 1))
    key = int(grey[3, 4, 0])
    (tmp_path / "a.png").write_bytes(png(grey, bits, 0, chunk(b"tRNS", struct.pack(">H", key | beyond))))
    picture = read_picture(tmp_path / "a.png")
    assert picture.grey and np.array_equal(picture.rgb[..., 0], grey[..., 0] * 255 // (2**bits - 1))
    assert np.array_equal(picture.alpha, np.where(grey[..., 0] == key, 0, 255))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", [b"tEXt", b"tIME", b"gAMA", b"eXIf", b"prVt"])
@pytest.mark.parametrize("behind", [False, True])
def test_a_damaged_chunk_beside_the_picture_is_left_out_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bits: int, kind: bytes, behind: bool
) -> None:
    values = RGB.astype(np.uint16) * 257 if bits == 16 else RGB
    text = chunk(b"tEXt", b"Title\0sound")
    place = {"behind" if behind else "before": damaged(chunk(kind, b"Comment\0bad")) + text}
    (tmp_path / "a.png").write_bytes(png(values, bits, 2, **place))
    picture = read_picture(tmp_path / "a.png")
    assert np.array_equal(picture.rgb, values) and picture.notes == (("PNG:tEXt", b"Title\0sound"),)
    assert picture.exif is None
    assert f"its chunk {kind.decode()} is damaged and left out" in caplog.text
    assert picture_size(tmp_path / "a.png") == RGB.shape[:2]


@pytest.mark.parametrize("kind", ["IHDR", "PLTE", "IDAT", "IEND"])
def test_a_damaged_chunk_of_the_picture_is_an_error(tmp_path: Path, kind: str) -> None:
    grey = RNG.integers(0, 256, (12, 20, 1))
    data = png(grey, 8, 3, chunk(b"PLTE", RNG.bytes(768)))
    at = next(each for each in walk(data) if each.kind == kind.encode()).end
    (tmp_path / "a.png").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(UserError, match=f"the checksum of its chunk {kind} is wrong"):
        read_picture(tmp_path / "a.png")


def raw_profile(name: bytes, content: bytes, compressed: bool) -> bytes:
    digits = content.hex().encode()
    lines = b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = b"\n%s\n%8d\n%s\n" % (name, len(content), lines)
    keyword = b"Raw profile type " + name + b"\0"
    return chunk(b"zTXt", keyword + b"\0" + zlib.compress(text)) if compressed else chunk(b"tEXt", keyword + text)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", [b"exif", b"APP1"])
def test_exif_that_imagemagick_keeps_as_text_turns_the_picture(tmp_path: Path, compressed: bool, name: bytes) -> None:
    found = Image.Exif()
    found[exif.ORIENTATION], found[exif.MAKE] = 6, "Maker"
    (tmp_path / "a.png").write_bytes(png(RGB, 8, 2, raw_profile(name, found.tobytes(), compressed)))
    picture = read_picture(tmp_path / "a.png")
    assert np.array_equal(picture.rgb, np.rot90(RGB, -1)) and picture_size(tmp_path / "a.png") == picture.rgb.shape[:2]
    assert picture.notes == ()  # else it would be turned once more
    for target in ("b.png", "b.tif"):
        write_picture(tmp_path / target, picture)
        again = read_picture(tmp_path / target)
        assert np.array_equal(again.rgb, picture.rgb) and exif.camera(again.exif) == "Maker"


def test_xmp_and_iptc_that_imagemagick_keeps_as_text(tmp_path: Path) -> None:
    packet, resources = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", b"8BIM\x04\x04\0\0\0\0\0\x04abcd"
    (tmp_path / "a.png").write_bytes(
        png(RGB, 8, 2, raw_profile(b"xmp", packet, True) + raw_profile(b"iptc", resources, False))
    )
    picture = read_picture(tmp_path / "a.png")
    assert (picture.xmp, picture.iptc) == (packet, resources)
    write_picture(tmp_path / "b.png", picture)
    again = read_picture(tmp_path / "b.png")
    assert (again.xmp, again.iptc) == (packet, resources)


@pytest.mark.parametrize("text", [b"\nexif\n 5\nabcdefgh\n", b"\nexif\n 2\nxyzw\n", b"exif", b"\nexif\nabc\n1234\n"])
def test_a_damaged_text_of_imagemagick_stays_a_text(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.png").write_bytes(png(RGB, 8, 2, chunk(b"tEXt", b"Raw profile type exif\0" + text)))
    picture = read_picture(tmp_path / "a.png")
    assert picture.exif is None and picture.notes == (("PNG:tEXt", b"Raw profile type exif\0" + text),)
