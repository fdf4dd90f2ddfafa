"""TIFFs that other programs write: planes, white that is zero, transparency, samples beside the colours, pages."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from atbsn.pictures import Picture, exif, picture_size, read_picture, write_picture
from atbsn.pictures.metadata import Samples
from atbsn.pictures.pages import pages
from atbsn.utils.errors import UserError

RNG = np.random.default_rng(0)
H, W = 37, 48


def noise(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def write(path: Path, values: Any, **options: Any) -> None:
    tifffile.imwrite(path, values, metadata=None, **options)


def by_libtiff(path: Path, values: np.ndarray, compression: str, predictor: int = 1, bits: int | None = None) -> None:
    """A TIFF of any samples that libtiff compresses, told that they are bytes, and then a directory that is true."""
    height, width, count = values.shape
    size = values.dtype.itemsize
    stored = values
    if predictor == 2:
        unsigned = values.view(f"u{size}")
        stored = unsigned.copy()
        stored[:, 1:] = unsigned[:, 1:] - unsigned[:, :-1]
    elif predictor == 3:
        planes = values.astype(values.dtype.newbyteorder(">")).view(np.uint8).reshape(height, width * count, size)
        rows = planes.transpose(0, 2, 1).reshape(height, -1, count)
        stored = rows.copy()
        stored[:, 1:] = rows[:, 1:] - rows[:, :-1]
    image = Image.fromarray(np.ascontiguousarray(stored).view(np.uint8).reshape(height, -1))
    image.save(path, compression=compression, tiffinfo={278: 7})
    data = path.read_bytes()
    directories = exif.Directories(data)
    found = {entry.tag: entry for entry in directories.read(directories.first)[0]}
    what = 3 if values.dtype.kind == "f" else 1
    for tag, numbers in {
        256: (width,), 258: (bits or 8 * size,) * count, 262: (2 if count >= 3 else 1,), 277: (count,),
        317: (predictor,), 338: (2,) * (count - (3 if count >= 3 else 1)), 339: (what,) * count,
    }.items():  # fmt: skip
        found[tag] = exif.DirectoryEntry(tag, 3, len(numbers), struct.pack(f"<{len(numbers)}H", *numbers))
    at = len(data) + len(data) % 2
    entries = [entry for entry in found.values() if entry.length]
    block = exif.directory(entries, "<", at)
    path.write_bytes(data[:4] + struct.pack("<I", at) + data[8:] + bytes(len(data) % 2) + block)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_planes_are_put_side_by_side(
    tmp_path: Path, dtype: str, compression: str | None, channels: int, order: str
) -> None:
    rgb = noise(H, W, channels, dtype=dtype)
    beyond = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    options = {"photometric": "rgb", "byteorder": order, "compression": compression, **beyond}
    write(tmp_path / "a.tif", rgb.transpose(2, 0, 1).copy(), planarconfig="separate", rowsperstrip=10, **options)
    picture = read_picture(tmp_path / "a.tif")
    assert np.array_equal(picture.rgb, rgb[..., :3])
    assert channels == 3 or np.array_equal(picture.alpha, rgb[..., 3])
    write_picture(tmp_path / "b.tif", picture)
    assert np.array_equal(read_picture(tmp_path / "b.tif").rgb, rgb[..., :3])


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("dtype", "predictor"), [("<u2", 1), ("<u2", 2), ("<f4", 1), ("<f4", 3), ("<f2", 3), ("<f8", 3)]
)
def test_every_compression_and_predictor(
    tmp_path: Path, compression: str, channels: int, dtype: str, predictor: int
) -> None:
    values = noise(H, W, channels) if dtype == "<u2" else RNG.random((H, W, channels)).astype(dtype)
    by_libtiff(tmp_path / "a.tif", values, compression, predictor)
    picture = read_picture(tmp_path / "a.tif")
    colours = values[..., :3] if channels >= 3 else values
    expected = colours if dtype == "<u2" else colours.astype(np.float32) * 255
    assert np.array_equal(picture.rgb[..., : colours.shape[2]], expected)
    assert picture.grey == (channels == 1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiles(tmp_path: Path, dtype: str, planar: str, compression: str | None) -> None:
    rgb = noise(H, W + 3, 3, dtype=dtype)
    values = rgb if planar == "contig" else rgb.transpose(2, 0, 1).copy()
    write(tmp_path / "a.tif", values, photometric="rgb", planarconfig=planar, tile=(16, 32), compression=compression)
    assert np.array_equal(read_picture(tmp_path / "a.tif").rgb, rgb)


PRIVATE = 65000


def name_private_tag(path: Path, tag: int) -> None:
    """What tifffile wrote as a private tag becomes one that it does not let others write."""
    data = bytearray(path.read_bytes())
    found = exif.Directories(data)
    entry = next(entry for entry in found.read(found.first)[0] if entry.tag == PRIVATE)
    struct.pack_into(found.order + "H", data, entry.position, tag)
    path.write_bytes(data)


def differences(values: np.ndarray, predictor: int) -> np.ndarray:
    """(H, W, C) as bytes of rows, each less its left neighbour: TIFF 6.0, section 14, and Technical Note 3."""
    height, width, count = values.shape
    size = values.dtype.itemsize
    if predictor == 2:
        stored = values.view(f"{values.dtype.byteorder}u{size}").astype(f"u{size}")
        stored[:, 1:] -= stored[:, :-1].copy()
        return stored.astype(f"{values.dtype.byteorder}u{size}")
    planes = values.astype(f">f{size}").view(np.uint8).reshape(height, width * count, size)
    rows = planes.transpose(0, 2, 1).reshape(height, -1, count)
    stored = rows.copy()
    stored[:, 1:] = rows[:, 1:] - rows[:, :-1]
    return stored


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(("kind", "predictor"), [("u1", 2), ("u2", 2), ("f2", 3), ("f4", 2), ("f4", 3), ("f8", 3)])
def test_differences_start_anew_in_every_tile(
    tmp_path: Path, order: str, planar: bool, channels: int, kind: str, predictor: int
) -> None:
    if planar and channels == 1:
        pytest.skip("one plane is no planes")
    height, width, side = 37, 53, 16  # tiles over both edges
    values = noise(height, width, channels, dtype="uint8") if kind == "u1" else noise(height, width, channels)
    values = (RNG.random(values.shape) if kind[0] == "f" else values).astype(order + kind)
    padded = np.pad(values, ((0, -height % side), (0, -width % side), (0, 0)))
    planes = [padded[..., n : n + 1] for n in range(channels)] if planar else [padded]
    tiles = [
        zlib.compress(
            differences(np.ascontiguousarray(plane[top : top + side, left : left + side]), predictor).tobytes()
        )
        for plane in planes
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]
    shape = (channels, height, width) if planar else (height, width, channels) if channels > 1 else (height, width)
    options = {
        "photometric": "rgb" if channels > 1 else "minisblack",
        "extrasamples": [2, 0] if channels == 5 else None,
    }
    write(
        tmp_path / "a.tif", iter(tiles), shape=shape, dtype=order + kind, tile=(side, side), compression="zlib",
        byteorder=order, bigtiff=kind == "u1",
        extratags=[(PRIVATE, 3, 1, predictor, True)], **options,
    )  # fmt: skip
    name_private_tag(tmp_path / "a.tif", 317)
    picture = read_picture(tmp_path / "a.tif")
    colours = values[..., : min(channels, 3)]
    expected = colours.astype(np.float32) * 255 if kind[0] == "f" else colours
    assert np.array_equal(picture.rgb, np.broadcast_to(expected, picture.rgb.shape))
    if channels == 5:
        scale = 255 if kind[0] == "f" else 1
        assert np.array_equal(picture.alpha, values[..., 3].astype(picture.alpha.dtype) * scale)
        assert np.array_equal(picture.extra[..., 0], values[..., 4].astype(picture.extra.dtype))


def test_differences_of_a_kind_that_cannot_be_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", noise(H, W), compression="zlib", extratags=[(PRIVATE, 3, 1, 3, True)])
    name_private_tag(tmp_path / "a.tif", 317)
    with pytest.raises(UserError, match="16 bits are stored as differences of kind 3"):
        read_picture(tmp_path / "a.tif")
    write(tmp_path / "b.tif", values := noise(H, W), extratags=[(PRIVATE, 3, 1, 2, True)])
    name_private_tag(tmp_path / "b.tif", 317)  # of what is not compressed
    assert np.array_equal(read_picture(tmp_path / "b.tif").rgb[..., 0], values)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16"])
def test_white_that_is_zero_is_turned_over(tmp_path: Path, dtype: str) -> None:
    grey = RNG.random((H, W)) < 0.5 if dtype == "bool" else noise(H, W, dtype=dtype)
    write(tmp_path / "a.tif", grey, photometric="miniswhite")
    picture = read_picture(tmp_path / "a.tif")
    expected = np.where(grey, 0, 255) if dtype == "bool" else np.iinfo(dtype).max - grey
    assert picture.grey and np.array_equal(picture.rgb[..., 0], expected)
    write_picture(tmp_path / "b.tif", picture)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages[0].photometric == 1
        assert np.array_equal(file.pages[0].asarray(), expected)


@pytest.mark.parametrize("bits", [2, 4, 6, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_depth_white_staying_white(tmp_path: Path, bits: int, channels: int) -> None:
    top = 2**bits - 1
    values = RNG.integers(0, top, (H, W, channels), endpoint=True)
    values[0, 0], values[0, 1] = 0, top
    single = (values.reshape(H, -1, 1) >> np.arange(bits - 1, -1, -1)) & 1
    packed = np.packbits(single.reshape(H, -1).astype(np.uint8), axis=1)
    rows = values.astype("<u2").reshape(H, -1).view(np.uint8) if bits == 16 else packed
    by_libtiff(tmp_path / "a.tif", rows[..., None], "tiff_lzw")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    _retag(tmp_path / "a.tif", data, {256: (W,), 258: (bits,) * channels, 262: (channels,) if channels == 1 else (2,),
                                      277: (channels,), 339: (1,) * channels})  # fmt: skip
    picture = read_picture(tmp_path / "a.tif")
    full = 255 if bits <= 8 else 65535
    assert picture.rgb.dtype == (np.uint8 if bits <= 8 else np.uint16)
    assert np.array_equal(picture.rgb[..., :channels], (values * full + top // 2) // top)


def _retag(path: Path, data: bytearray, numbers: dict[int, tuple[int, ...]]) -> None:
    directories = exif.Directories(bytes(data))
    found = {entry.tag: entry for entry in directories.read(directories.first)[0]}
    code = directories.order
    found |= {
        tag: exif.DirectoryEntry(tag, 3, len(v), struct.pack(f"{code}{len(v)}H", *v)) for tag, v in numbers.items()
    }
    at = len(data) + len(data) % 2
    block = exif.directory(found.values(), code, at)
    path.write_bytes(bytes(data[:4]) + struct.pack(code + "I", at) + bytes(data[8:]) + bytes(len(data) % 2) + block)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("grey", [False, True])
def test_colours_multiplied_by_their_transparency_are_divided(tmp_path: Path, dtype: str, grey: bool) -> None:
    top = 1 if dtype == "float32" else np.iinfo(dtype).max
    colours = (RNG.random((H, W, 1 if grey else 3)) * top).astype(dtype)
    alpha = np.full((H, W, 1), top, dtype)
    alpha[:, :20], alpha[:, :5] = top / 2, 0
    product = (colours * (alpha / top)).astype(dtype) if top == 1 else np.round(colours * (alpha / top)).astype(dtype)
    options = {"photometric": "minisblack" if grey else "rgb", "planarconfig": "contig"}
    write(tmp_path / "a.tif", np.dstack([product, alpha]), extrasamples=["assocalpha"], **options)
    picture = read_picture(tmp_path / "a.tif")
    expected = colours * 255.0 if top == 1 else colours.astype(float)
    error = np.abs(picture.rgb[..., : colours.shape[2]] - expected)[:, 5:]
    assert error.max() <= (1e-3 if top == 1 else 2)
    write_picture(tmp_path / "b.tif", picture)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages[0].extrasamples == (2,)
    assert np.array_equal(read_picture(tmp_path / "b.tif").alpha, picture.alpha)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("beyond", [["unspecified"], ["unspecified", "unassalpha"], ["unassalpha", "unspecified"]])
def test_samples_of_no_stated_meaning_stay_what_they_are(
    tmp_path: Path, dtype: str, beyond: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    values = noise(H, W, 3 + len(beyond), dtype=dtype)
    write(tmp_path / "a.tif", values, photometric="rgb", planarconfig="contig", extrasamples=beyond)
    with caplog.at_level("WARNING", "atbsn"):
        picture = read_picture(tmp_path / "a.tif")
    assert "a sample of no stated meaning" in caplog.text
    infrared = values[..., 3 + beyond.index("unspecified")]
    assert np.array_equal(picture.rgb, values[..., :3])
    assert np.array_equal(picture.extra[..., 0], infrared)
    assert (picture.alpha is None) == (len(beyond) == 1)
    write_picture(tmp_path / "b.tif", picture)
    again = read_picture(tmp_path / "b.tif")
    assert np.array_equal(again.extra[..., 0], infrared)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages[0].extrasamples == ((0,) if len(beyond) == 1 else (2, 0))
    with pytest.raises(
        UserError, match=r"PNG holds no samples beside colours and transparency; write (?!.*PNG).*\bTIFF\b"
    ):
        write_picture(tmp_path / "b.png", picture)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_bigtiff_of_both_byte_orders(
    tmp_path: Path, order: str, dtype: str, compression: str | None, recwarn: pytest.WarningsRecorder
) -> None:
    rgb = RNG.random((H, W, 3)).astype(dtype) if dtype == "float32" else noise(H, W, 3, dtype=dtype)
    write(tmp_path / "a.tif", rgb, photometric="rgb", byteorder=order, bigtiff=True, compression=compression)
    assert np.array_equal(read_picture(tmp_path / "a.tif").rgb, rgb * np.float32(255) if dtype == "float32" else rgb)
    assert picture_size(tmp_path / "a.tif") == (H, W)
    assert not list(recwarn)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_is_read_with_a_white_level_and_written_back(
    tmp_path: Path, dtype: str, channels: int, caplog: pytest.LogCaptureFixture
) -> None:
    values = (RNG.random((H, W, channels)) * 3).astype(dtype)
    options = {"photometric": "rgb"} if channels == 3 else {"photometric": "minisblack"}
    write(tmp_path / "a.tif", values.squeeze(), **options)
    with caplog.at_level("WARNING", "atbsn"):
        picture = read_picture(tmp_path / "a.tif")
    top = float(values.max())
    assert f"floating point: {top:g} is taken for white; --white tells another" in caplog.text
    assert picture.rgb.dtype == np.float32 and picture.white == pytest.approx(top, rel=1e-6)
    assert np.allclose(picture.rgb[..., :channels], values.astype(float) / top * 255, atol=1e-3)
    write_picture(tmp_path / "b.tif", picture)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        written = file.pages[0].asarray().reshape(values.shape)
    assert written.dtype == ("float16" if dtype == "float16" else "float32")
    assert np.allclose(written.astype(float), values.astype(float), atol=2e-3 if dtype == "float16" else 1e-5)
    write_picture(tmp_path / "b.png", picture)
    assert np.abs(read_picture(tmp_path / "b.png").rgb / 257 - picture.rgb).max() <= 0.51 / 257
    assert read_picture(tmp_path / "a.tif", white=1.5).rgb.max() == 255
    assert "its values above white" in caplog.text


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    values = np.ones((H, W, 3), np.float32)
    values[3, 4, 1] = np.nan
    write(tmp_path / "a.tif", values, photometric="rgb")
    with pytest.raises(UserError, match=r"some of its samples are no numbers \(NaN or infinite\)\); save"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".tif", ".png", ".pgm"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_white_of_fewer_bits_than_the_file_has(
    tmp_path: Path, suffix: str, bits: int, caplog: pytest.LogCaptureFixture
) -> None:
    top = 2**bits - 1
    values = noise(H, W) >> (16 - bits)
    values[0, 0] = top
    write_picture(tmp_path / f"a{suffix}", Picture(np.repeat(values[..., None], 3, axis=2), grey=True))
    with caplog.at_level("WARNING", "atbsn"):
        assert np.array_equal(read_picture(tmp_path / f"a{suffix}").rgb[..., 0], values)
    assert f"no value is above {top} of 65535: if it has {bits} bits, give --white {top}" in caplog.text
    picture = read_picture(tmp_path / f"a{suffix}", white=top)
    assert picture.rgb.max() == 65535
    assert np.array_equal(picture.rgb[..., 0], np.floor(values * (65535 / top) + 0.5))
    write_picture(tmp_path / f"b{suffix}", picture)
    assert np.array_equal(read_picture(tmp_path / f"b{suffix}").rgb[..., 0], values)
    caplog.clear()
    full = values << (16 - bits)
    write_picture(tmp_path / f"c{suffix}", Picture(np.repeat(full[..., None], 3, axis=2), grey=True))
    read_picture(tmp_path / f"c{suffix}")
    assert not caplog.text
    for white in (0, -5, float("inf"), float("nan")):
        with pytest.raises(UserError, match=r"white: .* is not above 0"):
            read_picture(tmp_path / f"a{suffix}", white=white)


def test_pages_are_chosen_and_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shots = [noise(H + number, W, 3, dtype="uint8") for number in range(3)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for shot in shots:
            file.write(shot, photometric="rgb", metadata=None)
    with caplog.at_level("WARNING", "atbsn"):
        assert np.array_equal(read_picture(tmp_path / "a.tif").rgb, shots[0])
    assert "a.tif: a TIFF of 3 pictures: only number 1 is used; --page takes another" in caplog.text
    caplog.clear()
    for number, shot in enumerate(shots, 1):
        assert np.array_equal(read_picture(tmp_path / "a.tif", page=number).rgb, shot)
        assert picture_size(tmp_path / "a.tif", page=number) == shot.shape[:2]
    assert not caplog.text
    with pytest.raises(UserError, match=r"a TIFF of 3 pictures has no page 4\); give --page 1 to 3"):
        read_picture(tmp_path / "a.tif", page=4)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("flagged", [False, True])
def test_a_thumbnail_is_no_page(
    tmp_path: Path, dtype: str, first: bool, flagged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    shot = noise(96, 128, 3, dtype=dtype)
    small = shot[::8, ::8].copy()
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for values in (small, shot) if first else (shot, small):
            file.write(values, photometric="rgb", metadata=None, subfiletype=int(flagged and values is small))
    with caplog.at_level("WARNING", "atbsn"):
        picture = read_picture(tmp_path / "a.tif")
    assert np.array_equal(picture.rgb, shot)
    assert picture_size(tmp_path / "a.tif") == (96, 128)
    assert not caplog.text


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_picture_beneath_its_thumbnail(tmp_path: Path, dtype: str) -> None:
    """As RAW files have it: the first directory is a small copy, the photograph lies in SubIFDs."""
    shot = noise(96, 128, 3, dtype=dtype)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(shot[::8, ::8].copy(), photometric="rgb", metadata=None, subifds=1, subfiletype=1)
        file.write(shot, photometric="rgb", metadata=None, subfiletype=0)
    assert np.array_equal(read_picture(tmp_path / "a.tif").rgb, shot)
    assert picture_size(tmp_path / "a.tif") == (96, 128)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_what_pillow_does_not_read(tmp_path: Path, orientation: int) -> None:
    shot = noise(H, W, 3, dtype="uint8")
    options = {"photometric": "rgb", "extratags": [(274, 3, 1, orientation, True)]}
    write(tmp_path / "contig.tif", shot, **options)
    write(tmp_path / "planar.tif", shot.transpose(2, 0, 1).copy(), planarconfig="separate", **options)
    expected = read_picture(tmp_path / "contig.tif").rgb
    assert np.array_equal(read_picture(tmp_path / "planar.tif").rgb, expected)
    assert picture_size(tmp_path / "planar.tif") == picture_size(tmp_path / "contig.tif") == expected.shape[:2]


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.97])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_samples_that_end_early_are_refused(tmp_path: Path, kept: float, compression: str) -> None:
    """The directory stands in front, as cameras write it, so only the samples are cut."""
    by_libtiff(tmp_path / "a.tif", noise(H, W, 3), compression)
    data = (tmp_path / "a.tif").read_bytes()
    directories = exif.Directories(data)
    entries = list(directories.read(directories.first)[0])
    shift = 4096
    moved = [
        entry._replace(value=np.add(np.frombuffer(entry.value, "<u4"), shift, dtype="<u4").tobytes())
        if entry.tag == 273
        else entry
        for entry in entries
    ]
    front = (b"II*\0\x08\0\0\0" + exif.directory(moved, "<", 8)).ljust(shift, b"\0")
    (tmp_path / "a.tif").write_bytes(front + data)
    assert read_picture(tmp_path / "a.tif").rgb.shape == (H, W, 3)
    end = shift + max(int(number) for number in pages(front + data)[0].tags[273]) - shift
    (tmp_path / "b.tif").write_bytes((front + data)[: shift + int((end - shift) * kept)])
    with pytest.raises(UserError, match=r"b\.tif: cannot be read as a picture \(.*\); repair or remove it"):
        read_picture(tmp_path / "b.tif")


@pytest.mark.parametrize("position", range(0, 300, 7))
def test_damaged_directories_never_crash(tmp_path: Path, position: int) -> None:
    write(tmp_path / "a.tif", noise(16, 16, 4), photometric="rgb", planarconfig="contig", extrasamples=["unspecified"])
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[position] ^= 0xFF
    (tmp_path / "a.tif").write_bytes(data)
    try:
        assert read_picture(tmp_path / "a.tif").rgb.ndim == 3
    except UserError as error:
        assert "a.tif" in str(error)


def test_a_palette_and_cmyk_of_16_bits_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", noise(H, W, 4), photometric="separated", planarconfig="contig")
    with pytest.raises(UserError, match=r"its colours are CMYK of 16 bits\); convert it to RGB"):
        read_picture(tmp_path / "a.tif")


def test_what_pillow_reads_is_still_read_by_pillow(tmp_path: Path) -> None:
    """JPEG and fax in TIFF, palettes: their bytes are no samples."""
    rgb = np.asarray(Image.fromarray(noise(H, W, 3, dtype="uint8")).resize((4 * W, 4 * H)))
    Image.fromarray(rgb).save(tmp_path / "jpeg.tif", compression="jpeg", quality=100)
    Image.fromarray(rgb).quantize(16).save(tmp_path / "palette.tif")
    Image.fromarray(rgb).convert("1").save(tmp_path / "fax.tif", compression="group4")
    assert np.abs(read_picture(tmp_path / "jpeg.tif").rgb.astype(int) - rgb).mean() < 10
    expected = np.asarray(Image.fromarray(rgb).quantize(16).convert("RGB"))
    assert np.array_equal(read_picture(tmp_path / "palette.tif").rgb, expected)
    assert set(np.unique(read_picture(tmp_path / "fax.tif").rgb)) == {0, 255}


def test_subsampled_chroma_and_tiles_over_the_edge(tmp_path: Path) -> None:
    """Of old cameras and scanners: YCbCr 4:2:2 without compression, and uncompressed tiles of grey."""
    y = noise(16, 32, dtype="uint8")
    units = np.full((16, 16, 4), 128, np.uint8)
    units[..., :2] = y.reshape(16, 16, 2)
    tags = {256: (32,), 257: (16,), 258: (8, 8, 8), 259: (1,), 262: (6,), 273: (8,), 277: (3,), 278: (16,),
            279: (units.size,), 530: (2, 1)}  # fmt: skip
    entries = [exif.DirectoryEntry(tag, 3, len(v), struct.pack(f"<{len(v)}H", *v)) for tag, v in tags.items()]
    at = 8 + units.size
    (tmp_path / "a.tif").write_bytes(
        b"II*\0" + struct.pack("<I", at) + units.tobytes() + exif.directory(entries, "<", at)
    )
    picture = read_picture(tmp_path / "a.tif")
    assert np.abs(picture.rgb.astype(int) - y[..., None]).max() <= 1
    for photometric in ("minisblack", "miniswhite"):
        write(tmp_path / "b.tif", noise(607, 90, dtype="uint8"), photometric=photometric, tile=(256, 64), byteorder=">")
        stored = tifffile.imread(tmp_path / "b.tif")
        expected = stored if photometric == "minisblack" else 255 - stored
        assert np.array_equal(read_picture(tmp_path / "b.tif").rgb[..., 0], expected)
    write(tmp_path / "c.tif", noise(607, 90, 3), photometric="rgb", tile=(256, 64))
    assert np.array_equal(read_picture(tmp_path / "c.tif").rgb, tifffile.imread(tmp_path / "c.tif"))


def test_a_kind_that_nobody_reads_is_named(tmp_path: Path) -> None:
    values = noise(H, W, 5, dtype="uint8")
    write(tmp_path / "a.tif", values, photometric="separated", planarconfig="contig", extrasamples=["unassalpha"])
    with pytest.raises(UserError, match=r"a\.tif: .*5 samples of 8 bits, CMYK\); save it as RGB"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["B", "H"])
def test_an_orientation_turns_the_picture_whatever_the_type_of_its_tag(tmp_path: Path, kind: str) -> None:
    """Some writers state it as a byte, which Pillow passes over."""
    stored = np.random.default_rng(0).integers(0, 256, (5, 9, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extratags=[(274, kind, 1, 6, True)])
    expected = np.rot90(stored, -1)
    assert np.array_equal(read_picture(tmp_path / "a.tif").rgb, expected)
    assert picture_size(tmp_path / "a.tif") == expected.shape[:2]


@pytest.mark.parametrize("big", [False, True])
def test_a_directory_far_outside_is_said_in_words(tmp_path: Path, big: bool) -> None:
    head = b"II+\0\x08\0\0\0" + b"\xff" * 8 if big else b"II*\0" + b"\xff" * 4
    (tmp_path / "a.tif").write_bytes(head)
    for read in (read_picture, picture_size):
        with pytest.raises(UserError, match="the TIFF structure leads outside of the file"):
            read(tmp_path / "a.tif")


def test_of_a_tag_that_is_there_twice_the_first_counts(tmp_path: Path) -> None:
    values = noise(H, W, dtype="uint8")
    write(tmp_path / "a.tif", values)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    found = exif.Directories(data)
    entries = found.read(found.first)[0]
    second = next(entry for entry in entries if entry.tag == 258)  # BitsPerSample becomes a second width
    struct.pack_into("<HHIHH", data, second.position, 256, 3, 1, 5, 0)
    (tmp_path / "a.tif").write_bytes(data)
    assert picture_size(tmp_path / "a.tif") == (H, W)


def test_samples_of_another_size_than_the_tags_state_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.tif", noise(H, W, 3, dtype="uint8"), photometric="rgb")
    monkeypatch.setattr(
        "atbsn.pictures.formats.tiff.samples_of", lambda image: (Samples(np.zeros((W, H, 3), np.uint8)), ())
    )
    with pytest.raises(UserError, match=f"not of the size {W}x{H} that its tags state"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize(("method", "name"), [(50001, "WebP"), (34712, "JPEG 2000"), (12345, "method 12345")])
def test_a_compression_that_is_not_decoded_is_named(tmp_path: Path, method: int, name: str) -> None:
    write(tmp_path / "a.tif", noise(H, W, 3, dtype="uint8"), photometric="rgb")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    found = exif.Directories(data)
    entry = next(entry for entry in found.read(found.first)[0] if entry.tag == 259)
    struct.pack_into("<H", data, entry.position + 8, method)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UserError, match=f"compressed by {name}, which is not decoded here.*; save it without"):
        read_picture(tmp_path / "a.tif")


def test_marks_of_missing_data_are_no_white(tmp_path: Path) -> None:
    values = RNG.random((H, W)).astype(np.float32)
    values[:3] = 3.4e38
    write(tmp_path / "a.tif", values)
    with pytest.raises(UserError, match=r"3.4e\+38, a mark rather than light\); tell white with --white N"):
        read_picture(tmp_path / "a.tif")
    picture = read_picture(tmp_path / "a.tif", white=1)
    assert np.allclose(picture.rgb[3:, :, 0], values[3:] * 255) and (picture.rgb[:3] == 255).all()


def test_eight_bits_multiplied_by_transparency_are_divided_to_the_nearest(tmp_path: Path) -> None:
    alpha = np.array([[50, 100, 200, 255]], np.uint8)
    colour = np.array([[25, 33, 77, 128]], np.uint8)
    values = np.dstack([colour, colour, colour, alpha])
    write(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["assocalpha"])
    picture = read_picture(tmp_path / "a.tif")
    assert np.array_equal(picture.rgb[..., 0], np.round(colour * 255.0 / alpha).astype(np.uint8))
    assert np.array_equal(picture.alpha, alpha)
