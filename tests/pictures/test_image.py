import io
import struct
import zlib
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from atbsn.pictures import (
    Picture,
    formats,
    from_tensor,
    image_paths,
    picture_size,
    read_picture,
    to_tensor,
    write_picture,
)
from atbsn.pictures.formats import png
from atbsn.pictures.metadata import Metadata, Samples
from atbsn.pictures.pillow import upright as upright_array
from atbsn.utils import files
from atbsn.utils.errors import UserError

RNG = np.random.default_rng(0)
LOSSLESS = [".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm"]


def noise(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([3 * x, 4 * y, x + y], axis=2).astype(np.uint8)


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_rgb_of_8_bits_survives(tmp_path: Path, suffix: str) -> None:
    rgb = noise(17, 23, 3)
    write_picture(tmp_path / f"a{suffix}", Picture(rgb))
    picture = read_picture(tmp_path / f"a{suffix}")
    assert np.array_equal(picture.rgb, rgb)
    assert (picture.alpha, picture.grey, picture.suffix) == (None, False, suffix)


@pytest.mark.parametrize(
    ("suffix", "dtype", "grey", "transparent"),
    [
        case
        for case in product((".png", ".tif", ".ppm"), ("uint8", "uint16"), (False, True), (False, True))
        if case[0] != ".ppm" or not case[3]
    ],
)
def test_depth_grey_and_alpha_survive(tmp_path: Path, suffix: str, dtype: str, grey: bool, transparent: bool) -> None:
    rgb = np.repeat(noise(9, 14, 1, dtype=dtype), 3, axis=2) if grey else noise(9, 14, 3, dtype=dtype)
    alpha = noise(9, 14, dtype=dtype) if transparent else None
    path = tmp_path / f"a{suffix}"
    write_picture(path, Picture(rgb, alpha, grey))
    picture = read_picture(path)
    assert picture.rgb.dtype == dtype
    assert np.array_equal(picture.rgb, rgb)
    assert np.array_equal(picture.alpha, alpha) if transparent else picture.alpha is None
    if not (transparent and dtype == "uint16"):
        assert picture.grey == grey


def test_16_bit_grey_alpha_png_is_grey(tmp_path: Path) -> None:
    samples = noise(5, 7, 2, dtype="uint16")
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 7, 5, 16, 4, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(data)
    picture = read_picture(tmp_path / "a.png")
    assert picture.grey
    assert np.array_equal(picture.rgb[..., 0], samples[..., 0])
    assert np.array_equal(picture.alpha, samples[..., 1])


def test_16_bit_tiff_compressed_by_other_programs(tmp_path: Path) -> None:
    rgb = noise(30, 20, 3, dtype="uint16")
    cv2.imwrite(str(tmp_path / "lzw.tif"), rgb[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    assert np.array_equal(read_picture(tmp_path / "lzw.tif").rgb, rgb)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("height", [8, 300])  # in one strip, in two
def test_pillow_modes(tmp_path: Path, mode: str, height: int) -> None:
    image = Image.fromarray(noise(height, 9, 4 if mode in ("LA", "RGBA") else 3)).convert(mode)
    image.save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert np.array_equal(picture.rgb, np.asarray(image.convert("RGBA"))[..., :3])
    assert picture.grey == (mode in ("1", "L", "LA"))
    assert (picture.alpha is not None) == (mode in ("LA", "RGBA"))


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.fromarray(noise(300, 9, 3)).quantize(8)
    image.save(tmp_path / "a.png", transparency=3)
    expected = np.where(np.asarray(image) == 3, 0, 255)
    assert np.array_equal(read_picture(tmp_path / "a.png").alpha, expected)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    """The file holds the picture as a camera turned that way stores it; reading gives it upright."""
    upright = smooth()
    stored = np.ascontiguousarray(upright_array(upright, {6: 8, 8: 6}.get(orientation, orientation)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x0110] = "camera"
    path = tmp_path / f"a{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, stored, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    else:
        options = {"lossless": True} if suffix == ".webp" else {"quality": 98, "subsampling": 0}
        Image.fromarray(stored).save(path, exif=exif, **options)
    picture = read_picture(path)
    assert picture.rgb.shape == upright.shape
    assert np.abs(picture.rgb.astype(int) - upright).max() <= (4 if suffix == ".jpg" else 0)
    assert picture_size(path) == upright.shape[:2]

    write_picture(tmp_path / f"again{suffix}", picture)
    again = read_picture(tmp_path / f"again{suffix}")
    assert np.abs(again.rgb.astype(int) - upright).max() <= (8 if suffix == ".jpg" else 0)
    if suffix != ".tif":
        with Image.open(tmp_path / f"again{suffix}") as image:
            assert dict(image.getexif()) == {0x0110: "camera", 0x0112: 1}


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_orientation_of_16_bits(tmp_path: Path, suffix: str) -> None:
    upright = noise(6, 9, 3, dtype="uint16")
    stored = np.ascontiguousarray(np.rot90(upright))  # shown upright after a quarter turn clockwise: 6
    path = tmp_path / f"a{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, stored, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        path.write_bytes(png.CODEC.encode(Samples(stored), Metadata(exif=exif.tobytes()), None))
    assert np.array_equal(read_picture(path).rgb, upright)
    assert picture_size(path) == (6, 9)


def test_orientation_means_what_pillow_takes_it_for(tmp_path: Path) -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.png"
        Image.fromarray(smooth()).save(path, exif=exif)
        with Image.open(path) as image:
            expected = np.asarray(ImageOps.exif_transpose(image))
        assert np.array_equal(read_picture(path).rgb, expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_profile_and_exif_are_kept(tmp_path: Path, suffix: str, dtype: str) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif.get_ifd(0x8769)[33434] = 0.25  # exposure time
    write_picture(tmp_path / f"a{suffix}", Picture(noise(8, 8, 3, dtype=dtype), icc=icc, exif=exif.tobytes()))
    picture = read_picture(tmp_path / f"a{suffix}")
    assert picture.icc == icc
    kept = Image.Exif()
    kept.load(picture.exif)
    assert kept[0x010F] == "maker"
    if suffix != ".tif":
        assert kept.get_ifd(0x8769)[33434] == 0.25


def test_jpeg_is_fine_and_not_subsampled(tmp_path: Path) -> None:
    rgb = smooth()
    write_picture(tmp_path / "a.JPG", Picture(rgb))
    with JpegImageFile(tmp_path / "a.JPG") as image:
        assert image.layer[0][1:3] == image.layer[1][1:3] == (1, 1)
    assert np.abs(read_picture(tmp_path / "a.JPG").rgb.astype(int) - rgb).max() <= 4


def test_grey_is_averaged_back(tmp_path: Path) -> None:
    rgb = np.array([[[10, 11, 11], [10, 10, 11], [255, 255, 255]]], np.uint8)
    write_picture(tmp_path / "a.png", Picture(rgb, grey=True))
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "L"
        assert np.asarray(image).tolist() == [[11, 10, 255]]


def test_one_pixel_wide_pictures(tmp_path: Path) -> None:
    for shape in ((1, 7, 3), (7, 1, 3), (1, 1, 3)):
        rgb = noise(*shape)
        write_picture(tmp_path / "a.png", Picture(rgb))
        assert np.array_equal(read_picture(tmp_path / "a.png").rgb, rgb)


def test_rounding_is_half_up() -> None:
    deep = np.arange(65536, dtype=np.uint16).reshape(1, -1, 1)
    expected = np.floor(deep / 257 + 0.5)
    assert np.array_equal(Picture(deep).rgb8(), expected)
    half = np.array([[[-3.0, 0.49, 0.5], [1.5, 254.5, 300.0]]], np.float32)
    assert Picture(half).rgb8().tolist() == [[[0, 0, 1], [2, 255, 255]]]
    assert from_tensor(torch.from_numpy(half).permute(2, 0, 1)).tolist() == [[[0, 0, 1], [2, 255, 255]]]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tensors_and_back(dtype: str) -> None:
    if dtype == "float32":
        rgb = RNG.random((5, 6, 3), np.float32) * 255
    else:
        rgb = np.linspace(0, np.iinfo(dtype).max, 256 * 257 * 3).astype(dtype).reshape(256, 257, 3)
    tensor = to_tensor(rgb)
    assert tensor.dtype == torch.float32
    assert tensor.shape == (3, *rgb.shape[:2])
    assert tensor.min() >= 0
    assert tensor.max() <= 255
    back = from_tensor(tensor, rgb.dtype)
    assert back.dtype == dtype
    assert back.flags.c_contiguous
    assert np.array_equal(back, rgb)


def encoded(kind: str) -> bytes:
    rgb = noise(64, 64, 3, dtype="uint16" if kind.endswith("16") else "uint8")
    suffix = "." + kind.removesuffix("16")
    codec = formats.by_suffix(suffix)
    assert codec is not None
    return codec.encode(Samples(rgb), Metadata(), None)


@pytest.mark.parametrize("kind", ["png", "tif", "bmp", "webp", "ppm", "png16", "tif16", "ppm16"])
@pytest.mark.parametrize("kept", [0, 0.001, 0.3, 0.6, 0.97])
def test_truncated_files_are_refused(tmp_path: Path, kind: str, kept: float) -> None:
    data = encoded(kind)
    path = tmp_path / f"a.{kind.removesuffix('16')}"
    path.write_bytes(data)
    read_picture(path)
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(UserError, match=r"a\.\w+: cannot be read as a picture \(.+\); repair or remove it"):
        read_picture(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    tifffile.imwrite(tmp_path / "int32.tif", noise(8, 8, dtype="uint32"))
    Image.fromarray(noise(8, 8)).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "gif.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("text.png", "gif.png", "folder.png"):
        with pytest.raises(UserError, match=rf"{name}: cannot be read as a picture"):
            read_picture(tmp_path / name)
    with pytest.raises(
        UserError,
        match=r"int32\.tif: .* \(its samples are unsigned integers of 32 bits\); save it with 8 or 16 bits",
    ):
        read_picture(tmp_path / "int32.tif")
    with pytest.raises(UserError, match=r"none\.png: no such file"):
        read_picture(tmp_path / "none.png")


def png_claiming(width: int, height: int) -> bytes:
    """A tiny PNG whose header claims any size."""
    image = io.BytesIO()
    Image.new("1", (1, 1)).save(image, "PNG")
    data = bytearray(image.getvalue())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_decompression_bombs_are_refused_and_large_photographs_are_not(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "bomb.png").write_bytes(png_claiming(20000, 20000))
    with pytest.raises(UserError, match="20000x20000 is over the limit"):
        read_picture(tmp_path / "bomb.png")
    (tmp_path / "far.png").write_bytes(png_claiming(2**30, 2**30))
    with pytest.raises(UserError, match=f"{2**60} pixels are over the limit of {2**28} pixels"):
        read_picture(tmp_path / "far.png")
    recwarn.clear()
    (tmp_path / "large.png").write_bytes(png_claiming(16320, 12240))
    assert picture_size(tmp_path / "large.png") == (12240, 16320)
    assert not [warning for warning in recwarn if warning.category is Image.DecompressionBombWarning]


def test_unwritable_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Picture(noise(4, 4, 3))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_picture(tmp_path / "file" / "a.png", picture)
    write_picture(tmp_path / "a.png", picture)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_picture(tmp_path / "a.png", Picture(noise(4, 4, 3)))
    assert np.array_equal(read_picture(tmp_path / "a.png").rgb, picture.rgb)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "file"]


def test_formats_that_cannot_hold_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"JPEG holds no transparency; write (?=.*\bPNG\b)(?=.*\bWebP\b)"):
        write_picture(tmp_path / "a.jpg", Picture(noise(4, 4, 3), alpha=noise(4, 4)))
    with pytest.raises(UserError, match=r"'\.gif' is not a known format"):
        write_picture(tmp_path / "a.gif", Picture(noise(4, 4, 3)))
    with pytest.raises(UserError, match=r"WebP holds no more than 16383 pixels a side, not 20000; write .*PNG"):
        write_picture(tmp_path / "a.webp", Picture(np.zeros((1, 20000, 3), np.uint8)))


def test_paths_are_recursive_sorted_and_of_any_case(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/z.jpg", "a/b/c.TiFF", "a.webp", "notes.txt", ".hidden.png", "c.bmp", "d.JPEG"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in image_paths(tmp_path)]
    assert found == ["a.webp", "a/b/c.TiFF", "a/z.jpg", "b.PNG", "c.bmp", "d.JPEG"]
    assert image_paths(tmp_path / "b.PNG") == [tmp_path / "b.PNG"]


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("")
    for name, message in [
        ("none", "no such file or folder"),
        ("empty", "no picture in this folder or below"),
        ("a.txt", f"not a {formats.KINDS} file"),
    ]:
        with pytest.raises(UserError, match=rf"{name}: {message}"):
            image_paths(tmp_path / name)


def test_a_real_photograph(shared: Path) -> None:
    path = shared / "data/polyu/OriginalImages/Canon5D2_chair_Real.JPG"
    picture = read_picture(path)
    assert picture.rgb.shape == (*picture_size(path), 3) == (1856, 2784, 3)
    with Image.open(path) as image:
        assert np.array_equal(picture.rgb, np.asarray(image))
    kept = Image.Exif()
    kept.load(picture.exif)
    assert "Canon" in kept[0x010F]
