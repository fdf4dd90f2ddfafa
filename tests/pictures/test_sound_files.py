"""Files that are in order though seldom met: long texts, lossless and cut-off JPEG, what lies behind a photograph."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.raw_files import write_dng
from PIL import Image

from atbsn.pictures import Picture, check_target, picture_size, read_picture, suffixes_for, write_picture, xmp
from atbsn.pictures.formats import CODECS, KINDS, SUFFIXES, by_suffix, jpeg, kinds_here
from atbsn.utils.errors import UserError

RNG = np.random.default_rng(0)
RGB = np.stack([*np.mgrid[40:168:4, 40:184:3], np.full((32, 48), 90)], axis=2).astype(np.uint8)
NOISE = RNG.integers(0, 256, (64, 96, 3), np.uint8)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def encoded(rgb: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["xmp", "icc", "text"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_long_texts_and_profiles_of_png_are_read_and_written(tmp_path: Path, kind: str, dtype: str) -> None:
    packet, icc = b"<x:xmpmeta>" + b" " * 3_000_000 + b"</x:xmpmeta>", RNG.bytes(3_000_000)
    picture = Picture(RGB.astype(dtype) * np.array(257 if dtype == "uint16" else 1, dtype))
    write_picture(tmp_path / "a.png", picture)
    data = (tmp_path / "a.png").read_bytes()
    more = {
        "xmp": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet)),
        "icc": chunk(b"iCCP", b"name\0\0" + zlib.compress(icc)),
        "text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 3_000_000)),
    }[kind]
    (tmp_path / "a.png").write_bytes(data[:33] + more + data[33:])
    read = read_picture(tmp_path / "a.png")
    assert {"xmp": read.xmp == packet, "icc": read.icc == icc, "text": len(read.notes) == 1}[kind]
    assert picture_size(tmp_path / "a.png") == RGB.shape[:2]
    write_picture(tmp_path / "b.png", read)
    again = read_picture(tmp_path / "b.png")
    assert (again.xmp, again.icc, again.notes) == (read.xmp, read.icc, read.notes)
    assert np.array_equal(again.rgb, picture.rgb)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("grey", [False, True])
def test_one_transparent_colour_of_png(tmp_path: Path, depth: int, grey: bool) -> None:
    values = NOISE[..., :1] if grey else NOISE
    values = values if depth == 8 else values.astype(np.uint16) * 257
    key = values[5, 7]
    rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else np.uint8).tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, 0 if grey else 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"tRNS", key.astype(">u2").tobytes())
    data += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    picture = read_picture(tmp_path / "a.png")
    expected = np.where((values == key).all(axis=2), 0, 255 if depth == 8 else 65535)
    assert np.array_equal(picture.rgb[..., : values.shape[2]], values)
    assert np.array_equal(picture.alpha, expected)


def lossless_jpeg(grey: np.ndarray) -> bytes:
    """Process 14 of ITU-T T.81 with the predictor of the left neighbour; differences in classes of 4-bit codes."""
    before = np.concatenate([np.r_[128, grey[:-1, 0]][:, None], grey[:, :-1]], axis=1)  # the first of a row: above
    bits = ""
    for difference in (grey.astype(int) - before).ravel():
        size = int(abs(difference)).bit_length()
        value = difference if difference > 0 else difference + 2**size - 1
        bits += f"{size:04b}" + (f"{value:0{size}b}" if size else "")
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    height, width = grey.shape
    parts = [
        (0xC3, struct.pack(">BHHB3B", 8, height, width, 1, 1, 0x11, 0)),
        (0xC4, b"\0" + bytes([0, 0, 0, 9, *[0] * 12]) + bytes(range(9))),
        (0xDA, bytes([1, 1, 0, 1, 0, 0])),
    ]
    segments = b"".join(struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body for kind, body in parts)
    return b"\xff\xd8" + segments + coded + b"\xff\xd9"


def test_a_lossless_jpeg_has_no_tables(tmp_path: Path) -> None:
    data = lossless_jpeg(RGB[..., 0])
    try:
        Image.open(io.BytesIO(data)).load()
    except OSError:
        pytest.skip("this Pillow's libjpeg decodes no lossless JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.grey and picture.coding is None
    assert np.array_equal(picture.rgb[..., 0], RGB[..., 0])
    write_picture(tmp_path / "b.jpg", picture)
    assert jpeg.quality_of(read_picture(tmp_path / "b.jpg").coding.tables) == 98


def test_a_lossless_jpeg_of_a_camera(shared: Path) -> None:
    picture = read_picture(shared / "data/cases/pictures/lossless_testimgl.jpg")
    assert picture.rgb.shape == (149, 227, 3) and picture.coding is None


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.97])
def test_of_a_jpeg_cut_off_what_is_there_is_read(
    tmp_path: Path, progressive: bool, kept: float, caplog: pytest.LogCaptureFixture
) -> None:
    data = encoded(NOISE, "JPEG", quality=95, progressive=progressive)
    (tmp_path / "a.jpg").write_bytes(data)
    whole = read_picture(tmp_path / "a.jpg").rgb
    assert jpeg.end_of_picture(data) == len(data)
    (tmp_path / "a.jpg").write_bytes(data[: int(len(data) * kept)])
    with caplog.at_level("WARNING", "atbsn"):
        cut = read_picture(tmp_path / "a.jpg").rgb
    assert "a.jpg: its file is cut off: what is there is used" in caplog.text
    assert cut.shape == whole.shape
    if not progressive:
        rows = 16 * int(4 * kept * 0.7) - 1  # whole blocks; the colours of their last row are smoothed with the next
        assert rows < 0 or np.array_equal(cut[:rows], whole[:rows])


@pytest.mark.parametrize("kept", [0, 1, 100, 620])
def test_of_a_jpeg_cut_off_in_its_header_nothing_is_read(tmp_path: Path, kept: int) -> None:
    data = encoded(NOISE, "JPEG", quality=95)
    assert data.index(b"\xff\xda") > 600
    (tmp_path / "a.jpg").write_bytes(data[:kept])
    with pytest.raises(UserError, match=r"a\.jpg: cannot be read as a picture \(.+\); repair or remove it"):
        read_picture(tmp_path / "a.jpg")


def test_a_jpeg_damaged_in_the_middle_is_no_cut_off_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = encoded(NOISE, "JPEG", quality=95)
    (tmp_path / "a.jpg").write_bytes(data + b"anything behind it")
    with caplog.at_level("WARNING", "atbsn"):
        read_picture(tmp_path / "a.jpg")
    assert not caplog.text


def packet(*lines: str) -> bytes:
    spaces = (
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" xmlns:Cam="http://ns.google.com/photos/1.0/camera/" '
        'xmlns:C="http://ns.google.com/photos/1.0/container/" xmlns:I="http://ns.google.com/photos/1.0/container/item/"'
    )
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {spaces}>{"".join(lines)}</rdf:RDF></x:xmpmeta>'.encode()


DIRECTORY = (
    "<C:Directory><rdf:Seq><rdf:li rdf:parseType='Resource'><C:Item I:Semantic='{}' I:Length='9'/></rdf:li>"
    "</rdf:Seq></C:Directory>"
)
ATTACHED = {
    "gain map as attributes": ('<rdf:Description hdrgm:Version="1.0" dc:title="t"/>', "gain map (HDR)"),
    "gain map as elements": (
        "<rdf:Description dc:title='t'><hdrgm:Version>1.0</hdrgm:Version>"
        + "<hdrgm:GainMapMax><rdf:Seq/></hdrgm:GainMapMax>"
        + DIRECTORY.format("GainMap")
        + "</rdf:Description>",
        "gain map (HDR)",
    ),
    "motion photo": (
        '<rdf:Description Cam:MotionPhoto="1" Cam:MotionPhotoVersion=\'1\' dc:title="t">'
        + DIRECTORY.format("MotionPhoto")
        + "</rdf:Description>",
        "video (motion photo)",
    ),
    "micro video": (
        '<rdf:Description Cam:MicroVideo="1" Cam:MicroVideoOffset="7" dc:title="t"/>',
        "video (motion photo)",
    ),
}


@pytest.mark.parametrize("name", ATTACHED)
@pytest.mark.parametrize("suffix", [".jpg", ".heic", ".avif"])
def test_what_is_left_out_is_told_and_taken_out_of_xmp(
    tmp_path: Path, name: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    if suffix != ".jpg":
        pytest.importorskip("pillow_heif")
        pytest.importorskip("PIL._avif")
    lines, word = ATTACHED[name]
    write_picture(tmp_path / f"a{suffix}", Picture(RGB, xmp=packet(lines)))
    with caplog.at_level("WARNING", "atbsn"):
        picture = read_picture(tmp_path / f"a{suffix}")
    assert f"its {word} is left out" in caplog.text
    assert picture.xmp.count(b"title") == 1
    for gone in (b"hdrgm:Version", b"Semantic", b"MotionPhoto", b"MicroVideo", b"GainMapMax"):
        assert gone not in picture.xmp
    assert xmp.without_attachments(picture.xmp) == (picture.xmp, ())


def test_a_packet_without_attachments_stays_byte_for_byte() -> None:
    plain = packet('<rdf:Description dc:title="MotionPhoto hdrgm GainMap" Cam:Burst="1"/>')
    assert xmp.without_attachments(plain) == (plain, ())


@pytest.mark.parametrize(
    ("behind", "word"),
    [
        (b"\0\0\0\x18ftypmp42" + bytes(90), "its video (motion photo) is left out"),
        (b"some bytes MotionPhoto_Data\0\0\0\x18ftypmp42", "its video (motion photo) is left out"),
        (b"\xff\xd8\xff\xe1..http://ns.adobe.com/hdr-gain-map/1.0/\0", "its gain map (HDR) is left out"),
        (b"\xff\xd8\xff\xe1urn:com:apple:photo:2020:aux:hdrgainmap", "its gain map (HDR) is left out"),
        (b"a maker's preview", None),
    ],
)
def test_what_lies_behind_a_jpeg_is_told(
    tmp_path: Path, behind: bytes, word: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(RGB, "JPEG") + behind)
    with caplog.at_level("WARNING", "atbsn"):
        picture = read_picture(tmp_path / "a.jpg")
    assert word in caplog.text if word else not caplog.text
    write_picture(tmp_path / "b.jpg", picture)
    data = (tmp_path / "b.jpg").read_bytes()
    assert jpeg.end_of_picture(data) == len(data)


@pytest.mark.parametrize("length", [1000, 65_000, 65_600, 200_000])
def test_xmp_of_any_length_goes_into_a_jpeg_and_comes_back(tmp_path: Path, length: int) -> None:
    long = packet(f"<rdf:Description><dc:title>{'ab' * (length // 2)}</dc:title></rdf:Description>")
    write_picture(tmp_path / "a.jpg", Picture(RGB, xmp=long))
    picture = read_picture(tmp_path / "a.jpg")
    assert (picture.xmp, picture.notes) == (long, ())
    data = (tmp_path / "a.jpg").read_bytes()
    assert data.count(xmp.EXTENSION) == (0 if length < 65_500 else -(-len(long) // 65_000))
    write_picture(tmp_path / "b.tif", picture)
    assert read_picture(tmp_path / "b.tif").xmp == long
    damaged = data.replace(b"abab", b"aXab", 1)
    (tmp_path / "a.jpg").write_bytes(damaged)
    assert read_picture(tmp_path / "a.jpg").xmp != long


def test_hif_is_heic(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    write_picture(tmp_path / "a.HIF", Picture(RGB))
    picture = read_picture(tmp_path / "a.HIF")
    assert picture.suffix == ".HIF" and by_suffix(".HIF").name == "HEIC"
    assert (tmp_path / "a.HIF").read_bytes()[4:8] == b"ftyp"


def test_a_heif_without_a_picture_is_refused_in_words(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0\0\0\x08free")
    with pytest.raises(
        UserError, match=r"a\.heic: cannot be read as a picture \([A-Za-z ].+\); repair or remove it"
    ) as told:
        read_picture(tmp_path / "a.heic")
    assert "index out of range" not in str(told.value)


@pytest.mark.parametrize("header", [b"P6 4 3 255\n", b"P6\n# a comment\n4 3\n255\n", b"P6\t4\n#one\n#two\n3 255 "])
def test_ppm_of_other_programs(tmp_path: Path, header: bytes) -> None:
    values = NOISE[:3, :4]
    (tmp_path / "a.ppm").write_bytes(header + values.tobytes())
    assert np.array_equal(read_picture(tmp_path / "a.ppm").rgb, values)
    text = b"P3 4 3 15\n" + " ".join(str(value >> 4) for value in values.ravel()).encode()
    (tmp_path / "a.ppm").write_bytes(text)
    assert np.array_equal(read_picture(tmp_path / "a.ppm").rgb, (values >> 4) * 17)
    (tmp_path / "a.ppm").write_bytes(text.replace(b" ", b" # of 15 12\n"))
    assert np.array_equal(read_picture(tmp_path / "a.ppm").rgb, (values >> 4) * 17)


@pytest.mark.parametrize(
    "data", [b"P6", b"P6 4 3", b"P6 4 3 0\n", b"P6 4 3 70000\n", b"P6 99999 99999 255\n", b"P5 2 1 7\n\x07\x08"]
)
def test_damaged_ppm_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.ppm").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.ppm: cannot be read as a picture"):
        read_picture(tmp_path / "a.ppm")


@pytest.mark.parametrize("body", [b"1 2 3", b"1 2 3 x", b"1 2 3 -4", b"1 2 3 70000000000000000000000"])
def test_damaged_numbers_of_a_ppm_are_refused_in_words(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P2 2 2 9\n" + body)
    with pytest.raises(UserError, match=r"its numbers end early or are damaged|a value above the largest one") as told:
        read_picture(tmp_path / "a.pgm")
    assert "invalid literal" not in str(told.value)


@pytest.mark.parametrize(
    ("marker", "bits", "name"),
    [(0xC1, 12, "a JPEG of 12 bits"), (0xC3, 16, "a JPEG of 16 bits"), (0xF7, 8, "a JPEG-LS")],
)
def test_kinds_of_jpeg_that_are_not_decoded_are_named(tmp_path: Path, marker: int, bits: int, name: str) -> None:
    frame = struct.pack(">BBHBHHB", 0xFF, marker, 11, bits, 4, 6, 1) + b"\1\x11\0"
    thumbnail = (
        b"\xff\xe1" + struct.pack(">H", 22) + b"\xff\xc0\0\x0b\x08" + bytes(15)
    )  # its frame is not the picture's
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8" + thumbnail + frame + b"\xff\xd9")
    for read in (read_picture, picture_size):
        with pytest.raises(UserError, match=rf"a\.jpg: .*\({name}.*is not decoded here\); convert it to PNG or TIFF"):
            read(tmp_path / "a.jpg")


@pytest.mark.parametrize("share", [0.1, 0.5, 1])
@pytest.mark.parametrize("value", [0, 600])
def test_raw_whose_sensor_data_are_missing_is_refused(tmp_path: Path, share: float, value: int) -> None:
    """LibRaw develops what was never written; rows of one value are no photograph, unless they are blown out."""
    pytest.importorskip("rawpy")
    scene = np.clip(RNG.normal(0.3, 0.05, (96, 128, 3)), 0, 1)
    write_dng(tmp_path / "a.dng", scene)
    whole = (tmp_path / "a.dng").read_bytes()
    assert read_picture(tmp_path / "a.dng").rgb.shape == (96, 128, 3)
    length = int(96 * share) * 128 * 2
    empty = np.full(length // 2, value, "<u2").tobytes()
    (tmp_path / "a.dng").write_bytes(whole[: len(whole) - length] + empty)
    with pytest.raises(
        UserError, match=rf"its sensor data are cut off or missing: {int(96 * share)} of 96 rows are empty"
    ):
        read_picture(tmp_path / "a.dng")
    blown = np.full(length // 2, 16383, "<u2").tobytes()
    (tmp_path / "a.dng").write_bytes(whole[: len(whole) - length] + blown)
    assert read_picture(tmp_path / "a.dng").rgb.shape == (96, 128, 3)


def test_a_target_is_checked_by_its_name_alone() -> None:
    assert check_target("a/b.JPG").name == "JPEG"
    for name, message in {
        "out.gif": r"out\.gif: '\.gif' is not a known format; write (?=.*\bBMP\b)(?=.*\bJPEG\b)",
        "out": r"out: '' is not a known format",
        "out.nef": r"out\.nef: camera RAW is not written; write TIFF",
    }.items():
        with pytest.raises(UserError, match=message):
            check_target(name)


def test_what_a_target_cannot_hold_is_known_with_those_that_can() -> None:
    transparent = Picture(RGB, alpha=RGB[..., 0])
    for name in ("a.bmp", "a.jpg", "a.ppm"):
        with pytest.raises(UserError, match=r"holds no transparency; write (?=.*\bPNG\b)(?=.*\bTIFF\b)(?=.*\bWebP\b)"):
            check_target(name, transparent)
    assert {".png", ".tif", ".webp"} <= set(suffixes_for(transparent))
    assert not {".bmp", ".jpg", ".ppm"} & set(suffixes_for(transparent))
    holders = set(suffixes_for(Picture(RGB, extra=RGB)))
    assert ".tif" in holders and not {".bmp", ".jpg", ".png", ".ppm", ".webp"} & holders
    wide = Picture(np.zeros((1, 70_000, 3), np.uint8))
    with pytest.raises(UserError, match=r"JPEG holds no more than 65500 pixels a side, not 70000; write .*PNG"):
        check_target("a.jpg", wide)


def test_metadata_that_a_target_does_not_hold_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture = Picture(RGB, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0", xmp=packet(""), icc=b"profile")
    with caplog.at_level("WARNING", "atbsn"):
        write_picture(tmp_path / "a.bmp", picture)
    assert "BMP: its colour profile is left out" in caplog.text
    assert "BMP holds no EXIF and XMP; they are left out" in caplog.text


def test_every_format_says_what_it_is() -> None:
    assert {suffix for codec in CODECS for suffix in codec.suffixes} == SUFFIXES
    plain = set(KINDS.replace(" or ", ", ").split(", "))
    assert {"BMP", "JPEG", "PNG", "PPM", "TIFF", "WebP"} <= plain <= set(kinds_here())
    for codec in CODECS:
        assert codec.name and codec.suffixes
        assert all(suffix == suffix.lower() and by_suffix(suffix.upper()) is codec for suffix in codec.suffixes)


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec.writes], ids=lambda codec: codec.name)
def test_every_format_writes_what_it_reads(tmp_path: Path, codec: Any) -> None:
    """A new format is met by this test as soon as its file lies in the folder."""
    if codec.library:
        pytest.importorskip(codec.library)
    holds = codec.holds
    deep = (RGB.astype(np.uint16) * 257) if holds.bits > 8 else RGB
    picture = Picture(deep, alpha=deep[..., 0].copy() if holds.alpha else None, icc=None)
    for suffix in codec.suffixes:
        path = tmp_path / f"a{suffix}"
        write_picture(path, picture, quality=95)
        assert codec.sniff(path.read_bytes(), "")
        again = read_picture(path)
        assert (again.rgb.dtype, again.rgb.shape, again.suffix) == (deep.dtype, deep.shape, suffix)
        assert picture_size(path) == deep.shape[:2]
        assert (again.alpha is not None) == holds.alpha
        assert np.abs(again.rgb.astype(float) - deep).max() <= 0.05 * np.iinfo(deep.dtype).max
