"""What a file says besides its pixels comes through reading and writing, byte for byte where that is the promise."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers.metadata import ICC, NOTE, XMP, camera_block, entry, values
from PIL import Image, JpegImagePlugin, PngImagePlugin
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from atbsn.pictures import Picture, exif, iptc, picture_size, read_picture, write_picture
from atbsn.pictures.formats import jpeg
from atbsn.pictures.metadata import Metadata
from atbsn.utils.errors import UserError

RNG = np.random.default_rng(0)
IPTC = bytes.fromhex("1c 02 05 0005") + b"Title" + bytes.fromhex("1c 02 78 0007") + b"Caption"
RESOURCES = b"8BIM" + struct.pack(">H2xI", 0x03ED, 3) + b"abc\0" + iptc.wrap(IPTC)


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([3 * x, 4 * y, x + y], axis=2).astype(np.uint8)


def jpeg_file(path: Path, image: Image.Image | None = None, segments: bytes = b"", **options: Any) -> None:
    image = Image.fromarray(smooth()) if image is None else image
    image.save(path, "JPEG", extra=segments, **options)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_of_a_camera_stays_byte_for_byte(tmp_path: Path, order: str) -> None:
    block = camera_block(order)
    jpeg_file(tmp_path / "a.jpg", exif=block)
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.exif == block
    for suffix in (".jpg", ".png", ".webp"):
        write_picture(tmp_path / f"b{suffix}", picture)
        assert read_picture(tmp_path / f"b{suffix}").exif == block


@pytest.mark.parametrize("order", ["<", ">"])
def test_thumbnail_goes_and_orientation_is_reset(tmp_path: Path, order: str) -> None:
    jpeg_file(tmp_path / "a.jpg", exif=camera_block(order, 6, thumbnail=b"\xff\xd8 old noise \xff\xd9"))
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.rgb.shape == (64, 48, 3)
    expected = values(camera_block(order))
    expected[exif.EXIF, 40962], expected[exif.EXIF, 40963] = (4, 1, [48]), (4, 1, [64])
    assert values(picture.exif) == expected
    assert len(picture.exif) == len(camera_block(order))


def test_a_thumbnail_amid_other_things_is_blanked() -> None:
    """Some cameras put the thumbnail before their notes: nothing may move then."""
    order, thumbnail = "<", b"\xff\xd8 old noise \xff\xd9"
    camera = exif.DirectoryEntry(exif.EXIF, 4, 1, bytes(4), (entry(37500, 7, order, NOTE),))
    first_size = 2 + 12 + 4
    second = 8 + first_size
    tags = [entry(513, 4, order, second + 30), entry(514, 4, order, len(thumbnail))]
    later = second + 30 + len(thumbnail) + len(thumbnail) % 2
    notes = exif.directory(camera.children, order, later)
    first = struct.pack("<HHHII", 1, exif.EXIF, 4, 1, later) + struct.pack("<I", second)
    body = b"II*\0\x08\0\0\0" + first + exif.directory(tags, order, second) + thumbnail
    body += bytes(len(thumbnail) % 2) + notes
    kept = exif.upright(b"Exif\0\0" + body)
    assert len(kept) == len(body) + 6
    assert thumbnail not in kept
    assert NOTE in kept
    assert exif.Directories(kept[6:]).number("I", 8 + 14) == 0


@pytest.mark.parametrize(
    "damage", [b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"nothing of the kind", b"II*\0\x08\0\0\0\xff\xff"]
)
def test_damaged_exif_is_left_out_and_the_picture_is_read(tmp_path: Path, damage: bytes) -> None:
    jpeg_file(tmp_path / "a.jpg", exif=b"Exif\0\0" + damage)
    picture = read_picture(tmp_path / "a.jpg")
    assert (picture.exif, picture.rgb.shape) == (None, (48, 64, 3))


def test_any_flipped_byte_in_exif_is_survived(tmp_path: Path) -> None:
    whole = camera_block("<", 6, b"thumb")
    for position in range(6, len(whole), 3):
        block = bytearray(whole)
        block[position] ^= 0xFF
        kept = exif.upright(bytes(block))
        assert kept is None or len(kept) <= len(block)
        assert exif.orientation(bytes(block)) in range(1, 9)
        exif.collect(bytes(block)[6:])
        exif.for_tiff(bytes(block))


def test_jpeg_keeps_all_its_segments(tmp_path: Path) -> None:
    """XMP, extended XMP, IPTC in Photoshop's resources over several segments, comment, profile and resolution."""
    resources = RESOURCES + b"8BIM" + struct.pack(">H2xI", 0x0FA0, 100_000) + RNG.bytes(100_000)
    header = b"Photoshop 3.0\0"
    more = b"http://ns.adobe.com/xmp/extension/\0" + b"F" * 32 + struct.pack(">II", 4, 0) + b"more"
    segments = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP) + segment(0xE1, more)
    segments += b"".join(segment(0xED, header + resources[at : at + 60_000]) for at in range(0, len(resources), 60_000))
    jpeg_file(tmp_path / "a.jpg", segments=segments, comment=b"a comment", icc_profile=ICC, dpi=(300, 240))
    write_picture(tmp_path / "b.jpg", read_picture(tmp_path / "a.jpg"))
    for name in ("a.jpg", "b.jpg"):
        picture = read_picture(tmp_path / name)
        assert (picture.xmp, picture.iptc, picture.icc, picture.dpi) == (XMP, resources, ICC, (300, 240))
        assert dict(picture.notes) == {"JPEG:COM": b"a comment", "JPEG:APP1": more}
        assert iptc.record(picture.iptc) == IPTC
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.info["xmp"] == XMP


def test_iptc_and_xmp_cross_from_jpeg_to_tiff_and_back(tmp_path: Path) -> None:
    picture = Picture(smooth(), icc=ICC, exif=camera_block(), xmp=XMP, iptc=RESOURCES, dpi=(300, 150))
    write_picture(tmp_path / "a.jpg", picture)
    write_picture(tmp_path / "b.tif", read_picture(tmp_path / "a.jpg"))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        tags = file.pages[0].tags
        assert bytes(tags[33723].value) == IPTC
        assert bytes(tags[34377].value) == RESOURCES
        assert bytes(tags[700].value) == XMP
    write_picture(tmp_path / "c.jpg", read_picture(tmp_path / "b.tif"))
    again = read_picture(tmp_path / "c.jpg")
    assert (again.xmp, again.iptc, again.icc) == (XMP, RESOURCES, ICC)
    assert {key: value for key, value in values(again.exif).items()} == {
        key: value for key, value in values(camera_block()).items() if key != (0, 274)
    }


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_keeps_exif_gps_xmp_iptc_profile_and_resolution(tmp_path: Path, order: str, dtype: str) -> None:
    rgb = RNG.integers(0, 256, (9, 14, 3), dtype)
    write_picture(tmp_path / "a.tif", Picture(rgb, icc=ICC, exif=camera_block(order), xmp=XMP, iptc=RESOURCES))
    write_picture(tmp_path / "b.tif", read_picture(tmp_path / "a.tif"))
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    picture = read_picture(tmp_path / "b.tif")
    assert np.array_equal(picture.rgb, rgb)
    assert (picture.icc, picture.xmp, picture.iptc, picture.dpi) == (ICC, XMP, RESOURCES, (300, 150))
    assert values(picture.exif) == {key: value for key, value in values(camera_block(order)).items() if key != (0, 274)}
    with Image.open(tmp_path / "b.tif") as image:  # as another program sees it
        found = image.getexif()
        assert found[0x010F] == "Maker"
        assert found.get_ifd(0x8769)[33434] == 1 / 160
        assert found.get_ifd(0x8769)[37500] == NOTE
        assert found.get_ifd(0x8825)[2] == (48, 8, 12.34)
        assert image.info["dpi"] == (300, 150)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert len(file.pages) == 1
        assert file.pages[0].tags[282].value == (3000, 10)


def test_bare_iptc_of_a_tiff_reaches_a_jpeg(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", smooth(), photometric="rgb", extratags=[(33723, 7, len(IPTC), IPTC, True)])
    write_picture(tmp_path / "a.jpg", read_picture(tmp_path / "a.tif"))
    assert iptc.record(read_picture(tmp_path / "a.jpg").iptc) == IPTC


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_keeps_xmp_texts_colours_and_resolution(tmp_path: Path, dtype: str) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "grey noise")
    info.add_text("Comment", "packed", zip=True)
    info.add_itxt("Author", "né", "fr", "Auteur")
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    info.add(b"gAMA", struct.pack(">I", 45455))
    Image.fromarray(smooth()).save(tmp_path / "a.png", pnginfo=info, dpi=(300, 150), exif=camera_block())
    picture = read_picture(tmp_path / "a.png")
    if dtype == "uint16":
        picture = Picture(
            picture.rgb.astype(np.uint16) * 257, **{k: getattr(picture, k) for k in ("exif", "xmp", "notes", "dpi")}
        )
    write_picture(tmp_path / "b.png", picture)
    again = read_picture(tmp_path / "b.png")
    assert again.rgb.dtype == dtype
    assert (again.xmp, again.exif, again.notes, again.dpi) == (XMP, camera_block(), picture.notes, picture.dpi)
    with (
        PngImageFile(tmp_path / "a.png") as one,
        PngImageFile(tmp_path / "b.png") as other,
    ):
        assert one.text == other.text
        assert len(one.text) == 4
        assert other.info["gamma"] == 0.45455


def test_png_metadata_behind_the_pixels_and_compressed_xmp(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(smooth()).save(file, "PNG")
    data = file.getvalue()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packed = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)
    late = chunk(b"tEXt", b"late\0text") + chunk(b"iTXt", packed) + chunk(b"eXIf", camera_block()[6:])
    (tmp_path / "a.png").write_bytes(data[:-12] + late + data[-12:])
    picture = read_picture(tmp_path / "a.png")
    assert (picture.xmp, picture.exif, picture.notes) == (XMP, camera_block(), (("PNG:tEXt", b"late\0text"),))

    bomb = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(2**26 + 1))
    (tmp_path / "b.png").write_bytes(data[:33] + chunk(b"iTXt", bomb) + data[33:])
    with pytest.raises(UserError, match=r"b\.png: .* \(a text or a profile in it is over the limit of 64 MiB\)"):
        read_picture(tmp_path / "b.png")


def test_webp_keeps_exif_xmp_and_profile(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "a.webp", lossless=True, exif=camera_block(), xmp=XMP, icc_profile=ICC)
    write_picture(tmp_path / "b.webp", read_picture(tmp_path / "a.webp"))
    again = read_picture(tmp_path / "b.webp")
    assert (again.exif, again.xmp, again.icc) == (camera_block(), XMP, ICC)
    assert np.array_equal(again.rgb, smooth())
    assert (tmp_path / "b.webp").read_bytes()[12:16] == b"VP8X"


def test_a_lossy_webp_stays_lossy_and_a_lossless_one_lossless(tmp_path: Path) -> None:
    noise = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    sizes = {}
    for lossless in (False, True):
        Image.fromarray(noise).save(tmp_path / "a.webp", lossless=lossless, quality=80)
        picture = read_picture(tmp_path / "a.webp")
        assert picture.coding.lossless is lossless
        write_picture(tmp_path / "b.webp", picture)
        sizes[lossless] = (tmp_path / "b.webp").stat().st_size
        assert read_picture(tmp_path / "b.webp").coding.lossless is lossless
    assert sizes[False] < sizes[True]


def test_orientation_in_xmp_is_reset_too(tmp_path: Path) -> None:
    packet = XMP.replace(b"<rdf/>", b'<rdf:Description tiff:Orientation="6"/>')
    segments = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)
    jpeg_file(tmp_path / "a.jpg", segments=segments)
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.rgb.shape == (64, 48, 3)
    assert picture_size(tmp_path / "a.jpg") == (64, 48)
    assert picture.xmp == packet.replace(b'"6"', b'"1"')


@pytest.mark.parametrize("quality", [90, 92, 95, 98, 100])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_coded_as_its_source(tmp_path: Path, quality: int, subsampling: int, progressive: bool) -> None:
    jpeg_file(tmp_path / "a.jpg", quality=quality, subsampling=subsampling, progressive=progressive)
    write_picture(tmp_path / "b.jpg", read_picture(tmp_path / "a.jpg"))
    with (
        JpegImageFile(tmp_path / "a.jpg") as one,
        JpegImageFile(tmp_path / "b.jpg") as other,
    ):
        assert other.quantization == one.quantization
        assert JpegImagePlugin.get_sampling(other) == JpegImagePlugin.get_sampling(one) == subsampling
        assert ("progressive" in other.info) == progressive


def test_jpeg_with_its_own_tables(tmp_path: Path) -> None:
    """Cameras have tables of their own, not a scaled standard."""
    tables = [[1 + (row + column) // 3 for row in range(8) for column in range(8)], list(range(2, 66))]
    tables[1] = [min(value, 9) for value in tables[1]]
    jpeg_file(tmp_path / "a.jpg", qtables=tables, subsampling=1)
    picture = read_picture(tmp_path / "a.jpg")
    assert [list(table) for table in picture.coding.tables] == tables
    write_picture(tmp_path / "b.jpg", picture)
    with JpegImageFile(tmp_path / "b.jpg") as image:
        assert image.quantization == dict(enumerate(tables))


@pytest.mark.parametrize("quality", [25, 50, 75, 89])
def test_a_coarse_source_is_coded_at_quality_90(tmp_path: Path, quality: int) -> None:
    jpeg_file(tmp_path / "a.jpg", quality=quality, subsampling=2)
    jpeg_file(tmp_path / "ninety.jpg", quality=90, subsampling=2)
    picture = read_picture(tmp_path / "a.jpg")
    assert abs(jpeg.quality_of(picture.coding.tables) - quality) <= 1
    write_picture(tmp_path / "b.jpg", picture)
    with (
        JpegImageFile(tmp_path / "b.jpg") as image,
        JpegImageFile(tmp_path / "ninety.jpg") as ninety,
    ):
        assert image.quantization == ninety.quantization
        assert JpegImagePlugin.get_sampling(image) == 2


def test_a_coarse_chroma_table_counts(tmp_path: Path) -> None:
    jpeg_file(tmp_path / "a.jpg", qtables=[[1] * 64, [60] * 64])
    assert jpeg.quality_of(read_picture(tmp_path / "a.jpg").coding.tables) < 90


def test_quality_by_number(tmp_path: Path) -> None:
    jpeg_file(tmp_path / "a.jpg", quality=95, subsampling=2)
    picture = read_picture(tmp_path / "a.jpg")
    for quality in (60, 99):
        write_picture(tmp_path / "b.jpg", picture, quality=quality)
        assert abs(jpeg.quality_of(read_picture(tmp_path / "b.jpg").coding.tables) - quality) <= 1
        write_picture(tmp_path / "b.webp", picture, quality=quality)
        assert not read_picture(tmp_path / "b.webp").coding.lossless
    for quality in (0, 101, -1):
        with pytest.raises(UserError, match=rf"quality: {quality} is not between 1 and 100"):
            write_picture(tmp_path / "b.jpg", picture, quality=quality)


def test_a_turned_jpeg_halved_along_rows_loses_no_chroma(tmp_path: Path) -> None:
    jpeg_file(tmp_path / "a.jpg", quality=95, subsampling=1, exif=camera_block(orientation=6))
    assert read_picture(tmp_path / "a.jpg").coding.subsampling == 0


def test_grey_jpeg_stays_grey(tmp_path: Path) -> None:
    jpeg_file(tmp_path / "a.jpg", Image.fromarray(smooth()).convert("L"), quality=93)
    write_picture(tmp_path / "b.jpg", read_picture(tmp_path / "a.jpg"))
    with (
        JpegImageFile(tmp_path / "a.jpg") as one,
        JpegImageFile(tmp_path / "b.jpg") as other,
    ):
        assert other.mode == "L"
        assert other.quantization == one.quantization


def test_cmyk_becomes_srgb_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[..., 1] = 255
    Image.frombytes("CMYK", (8, 8), ink.tobytes()).save(tmp_path / "a.jpg", quality=100)
    with caplog.at_level("WARNING", "atbsn"):
        picture = read_picture(tmp_path / "a.jpg")
    assert "a.jpg: CMYK without a colour profile" in caplog.text
    assert np.abs(picture.rgb.astype(int) - (255, 0, 255)).max() <= 4
    write_picture(tmp_path / "b.jpg", picture)
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.mode == "RGB"


def test_a_cmyk_profile_of_other_colours_is_refused(tmp_path: Path) -> None:
    Image.frombytes("CMYK", (8, 8), bytes(256)).save(tmp_path / "a.jpg", icc_profile=ICC)
    with pytest.raises(
        UserError,
        match=r"a\.jpg: cannot be read as a picture \(its CMYK profile cannot be used .*\); convert it to RGB",
    ):
        read_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_animations_are_refused(tmp_path: Path, suffix: str) -> None:
    pages = [Image.fromarray(RNG.integers(0, 256, (8, 9, 3), np.uint8)) for _ in range(3)]
    options: dict[str, Any] = {".webp": {"lossless": True, "duration": 100}, ".png": {"duration": 100}}.get(suffix, {})
    pages[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=pages[1:], **options)
    kind = {".webp": "an animated WebP", ".png": "an animated PNG"}[suffix]
    for read in (read_picture, picture_size):
        with pytest.raises(
            UserError,
            match=rf"a\{suffix}: cannot be read as a picture \({kind} of 3 pictures, not one\); save each as a file",
        ):
            read(tmp_path / f"a{suffix}")


def test_smaller_copies_in_a_tiff_are_no_pages(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(smooth(), photometric="rgb")
        file.write(smooth()[::2, ::2].copy(), photometric="rgb", subfiletype=1)
    assert np.array_equal(read_picture(tmp_path / "a.tif").rgb, smooth())


def test_previews_behind_a_jpeg_are_no_pages_and_stereo_pairs_are(tmp_path: Path) -> None:
    pages = [Image.fromarray(smooth()), Image.fromarray(smooth())]
    pages[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=pages[1:])
    data = (tmp_path / "a.jpg").read_bytes()
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.rgb.shape == (48, 64, 3)
    write_picture(tmp_path / "b.jpg", picture)
    assert b"MPF\0" in data
    assert b"MPF\0" not in (tmp_path / "b.jpg").read_bytes()
    at = data.index(b"MPF\0") + 4
    found = exif.Directories(data[at:])
    entries = next(item for item in found.read(found.first)[0] if item.tag == 0xB002)
    stereo = bytearray(data)
    struct.pack_into(found.order + "I", stereo, at + entries.end - 16, 0x020002)
    (tmp_path / "c.jpg").write_bytes(stereo)
    with pytest.raises(
        UserError, match=r"c\.jpg: cannot be read as a picture \(a stereo pair or a panorama of 2 pictures\); save each"
    ):
        read_picture(tmp_path / "c.jpg")


def test_a_written_picture_keeps_what_was_read(tmp_path: Path) -> None:
    """No field of the metadata is forgotten on the way through ``Picture``."""
    jpeg_file(tmp_path / "a.jpg", quality=95, comment=b"c", icc_profile=ICC, dpi=(72, 72), exif=camera_block())
    picture = read_picture(tmp_path / "a.jpg")
    write_picture(tmp_path / "b.jpg", picture)
    again = read_picture(tmp_path / "b.jpg")
    assert [getattr(again, name) for name in Metadata.__dataclass_fields__] == [
        getattr(picture, name) for name in Metadata.__dataclass_fields__
    ]
