"""Picture files to samples and back: depth, channels, orientation, metadata. For ``pictures.image`` only.

8-bit files are decoded by Pillow, which refuses truncated data where OpenCV returns half a picture. Pillow
reduces 16-bit colour to 8 bits, so there it only checks the data, and OpenCV decodes it.
"""

import io
import os
from dataclasses import replace
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from atbsn.pictures import exif, formats, heif, jpeg, png, raw, tiff
from atbsn.pictures.colour import from_cmyk, srgb_profile
from atbsn.pictures.formats import Coding, Decoded, Metadata, RefusedError, check_pixels, check_single

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_STRIP = 256  # rows that are converted at once
_HEAD = 512  # bytes that tell the format
_LOSSY_WEBP = 95
"""Quality of a WebP whose source had losses; libwebp's files do not tell theirs."""


def decode(data: bytes, suffix: str = "") -> Decoded:
    """Decode the picture in ``data``; ``suffix``, in lower case, tells RAW from TIFF.

    Raises:
        RefusedError: several pictures in it, too large, colours or depths that are not ours, a library is missing.
        Exception: whatever the decoder raises, ValueError for other kinds.
    """
    kind = _kind(data, suffix)
    if kind == "RAW":
        return raw.decode(data)
    if kind == "HEIF":
        found = heif.decode(data)  # upright, but its EXIF may still tell otherwise
        block = found.metadata.exif
        block = exif.upright(block, transposed=exif.orientation(block) >= 5)
        return found._replace(metadata=replace(found.metadata, exif=block))
    file = io.BytesIO(data)
    image = _open(file, kind)
    metadata, orientation = _metadata(image, file)
    samples, warning = (_decode16(image, data), None) if _is_16bit(image, data) else _decode8(image)
    if image.mode == "CMYK":
        metadata = replace(metadata, icc=srgb_profile() if metadata.icc else None)
    return Decoded(_upright(samples, orientation), metadata, warning=warning)


def read_size(path: Path, file: BinaryIO) -> tuple[int, int]:
    """Upright height and width from the header of ``path``, opened as ``file``; refuses what ``decode`` refuses."""
    if not os.fstat(file.fileno()).st_size:
        raise RefusedError("it is empty", "repair or remove it")
    with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        kind = _kind(data, path.suffix.lower())
    if kind == "RAW":
        return raw.read_size(path)
    if kind == "HEIF":
        return heif.read_size(file)
    image = _open(file, kind)
    width, height = image.size
    return (width, height) if _orientation(image, file) >= 5 else (height, width)


def encode(samples: np.ndarray, suffix: str, picture: Metadata, quality: int | None = None) -> bytes:
    """Encode (H, W, C) samples, uint8 or (PNG, TIFF, HEIC) uint16, in the format of ``suffix``.

    Args:
        quality: 1 to 100, for formats with losses; None: as the source's.
    """
    if suffix in formats.TIFF:
        return tiff.encode(samples, picture)
    if suffix == ".png":
        return png.encode(samples, picture)
    if suffix in formats.HEIF:
        return heif.encode(samples, picture, quality)
    image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    if suffix in formats.JPEG:
        return jpeg.encode(image, picture, quality)
    if suffix in formats.AVIF:
        return heif.encode_avif(image, picture, quality)
    file = io.BytesIO()
    if suffix == ".bmp":
        image.save(file, "BMP", **({"dpi": picture.dpi} if picture.dpi else {}))
        return file.getvalue()
    lossy = picture.coding is not None and picture.coding.format == "WEBP" and not picture.coding.lossless
    options = {"quality": quality or _LOSSY_WEBP} if lossy or quality else {"lossless": True}
    found = {"icc_profile": picture.icc, "exif": picture.exif, "xmp": picture.xmp}
    image.save(file, "WEBP", exact=True, **options, **{key: value for key, value in found.items() if value})
    return file.getvalue()


def _kind(data: bytes | mmap, suffix: str) -> str | None:
    """``"RAW"``, ``"HEIF"`` or ``"AVIF"``; None: what Pillow reads, or nothing."""
    if suffix in formats.RAW or data[4:12] == b"ftypcrx " or tiff.is_dng(data):
        return "RAW"
    return heif.kind(data[:_HEAD])


def _open(file: BinaryIO, kind: str | None) -> Image.Image:
    """A single picture, not decoded yet."""
    Image.MAX_IMAGE_PIXELS = formats.MAX_PIXELS  # Pillow's own limit warns from 90 megapixels on, refuses from 179
    if kind == "AVIF":
        heif.need_avif()
    try:
        image = Image.open(file, formats=("AVIF",) if kind == "AVIF" else _FORMATS)
    except Image.DecompressionBombError as error:
        raise RefusedError(str(error).split(",")[0], "make it smaller or cut it up") from error
    check_pixels(*image.size)
    if image.format == "TIFF":
        assert isinstance(image, TiffImageFile)
        tiff.check_pages(image)
    elif image.format in ("JPEG", "MPO"):
        jpeg.check_frames(image)
    else:
        check_single(f"an animated {image.format}", getattr(image, "n_frames", 1))
    return image


def _metadata(image: Image.Image, file: io.BytesIO) -> tuple[Metadata, int]:
    """What is kept, already upright, and the orientation that is left to us."""
    orientation = _orientation(image, file)
    if image.format == "TIFF":
        metadata = tiff.metadata(image, file.getvalue())
    elif image.format == "PNG":
        metadata = png.metadata(image, file)
    elif image.format in ("JPEG", "MPO"):
        metadata = jpeg.metadata(image, turned=orientation >= 5)
    else:
        block = image.info.get("exif")
        coding = None
        if image.format in ("WEBP", "AVIF"):
            coding = Coding(image.format, lossless=image.format == "WEBP" and _is_lossless_webp(file.getbuffer()))
        metadata = Metadata(
            icc=image.info.get("icc_profile"),
            exif=block and exif.PREFIX + block.removeprefix(exif.PREFIX),
            xmp=image.info.get("xmp"),
            dpi=image.info.get("dpi"),
            coding=coding,
        )
    block = exif.upright(metadata.exif, transposed=orientation >= 5)
    return replace(metadata, exif=block, xmp=jpeg.upright_xmp(metadata.xmp)), orientation


def _orientation(image: Image.Image, file: BinaryIO) -> int:
    """The orientation, 1 to 8, that decoding leaves to us; TIFF decoders apply theirs."""
    if image.format == "TIFF":
        return 1
    if image.format == "PNG":
        found = png.metadata(image, file)
        block, xmp = found.exif, found.xmp
    elif image.format in ("JPEG", "MPO"):
        found = jpeg.metadata(image, turned=False)
        block, xmp = found.exif, found.xmp
    else:
        block, xmp = image.info.get("exif"), image.info.get("xmp")
    return exif.orientation(block) if block else jpeg.xmp_orientation(xmp)


def _is_lossless_webp(data: memoryview) -> bool:
    position = 12
    while position + 8 <= len(data):
        kind = bytes(data[position : position + 4])
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8L"
        position += 8 + (int.from_bytes(data[position + 4 : position + 8], "little") + 1 & ~1)
    return False


def _is_16bit(image: Image.Image, data: bytes) -> bool:
    if image.format == "PNG":
        return data[24] == 16  # the bit depth in IHDR
    return isinstance(image, TiffImageFile) and tiff.is_16bit(image)


def _decode8(image: Image.Image) -> tuple[np.ndarray, str | None]:
    image.load()
    transparent, warning = "transparency" in image.info, None
    if image.mode in ("1", "L", "LA", "La"):
        mode = "LA" if transparent or image.mode in ("LA", "La") else "L"
    elif image.mode in ("P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "YCbCr"):
        mode = "RGBA" if transparent or image.mode in ("PA", "RGBA", "RGBa") else "RGB"
    elif image.mode == "CMYK":
        converted, warning = from_cmyk(image)
        return np.array(converted), warning
    else:
        raise RefusedError(f"its colours are {image.mode}, not grey or RGB", "convert it to RGB, as sRGB")
    return _as_array(image, mode), warning


def _as_array(image: Image.Image, mode: str) -> np.ndarray:
    """(H, W, C) uint8 of a loaded image, as ``mode``. Strip by strip: Pillow takes 4 bytes a pixel, as many again to
    convert it, and copies twice to hand it out.
    """
    samples = np.empty((image.height, image.width, len(mode)), np.uint8)
    for top in range(0, image.height, _STRIP):
        bottom = min(top + _STRIP, image.height)
        strip = image.crop((0, top, image.width, bottom)).convert(mode)
        samples[top:bottom] = np.atleast_3d(np.asarray(strip))
    return samples


def _decode16(image: Image.Image, data: bytes) -> np.ndarray:
    if image.mode == "CMYK":
        raise RefusedError("its colours are CMYK of 16 bits", "convert it to RGB, as sRGB")
    image.load()
    if image.mode.startswith("I"):
        return np.array(image).astype(np.uint16)[..., None]
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16 or samples.ndim != 3:
        raise RefusedError("this kind of 16-bit picture is not supported", "save it as a plain TIFF or PNG")
    if image.format == "PNG" and data[25] == 4:  # the colour type in IHDR: grey with alpha
        return samples[..., [0, 3]]
    return samples[..., [2, 1, 0, 3][: samples.shape[2]]]


def _upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation: row 0 is top, bottom, left or right; column 0 likewise."""
    if orientation >= 5:
        samples = samples.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples
