"""Picture files to samples and back: depth, channels, orientation, colour profile. For ``utils.image`` only.

8-bit files are decoded by Pillow, which refuses truncated data where OpenCV returns half a picture. Pillow
reduces 16-bit colour to 8 bits, so there it only checks the data, and OpenCV decodes it.
"""

import io
import os
import struct
import zlib
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
import tifffile
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import TiffImageFile

MAX_PIXELS = 2**28
"""Larger pictures (268 megapixels) are refused: a small file can claim any size and exhaust the memory."""

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_ORIENTATION = ExifTags.Base.Orientation
_IFDS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# Description, camera, resolution, software, date, author, rights. The rest describes the old file's bytes.
_KEPT_TAGS = (270, 271, 272, 282, 283, 296, 305, 306, 315, 33432, *_IFDS)
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    ".jpg": {"format": "JPEG", "quality": 98, "subsampling": 0},
    ".png": {"format": "PNG"},
    ".bmp": {"format": "BMP"},
    ".webp": {"format": "WEBP", "lossless": True, "exact": True},
}
_SAVE_OPTIONS[".jpeg"] = _SAVE_OPTIONS[".jpg"]
_TIFF = (".tif", ".tiff")

SUFFIXES = frozenset({*_SAVE_OPTIONS, *_TIFF})
DEEP_SUFFIXES = frozenset({".png", *_TIFF})
"""Formats that hold 16 bits."""
ALPHA_SUFFIXES = DEEP_SUFFIXES | {".webp"}
"""Formats that hold transparency."""


class Decoded(NamedTuple):
    """Samples (H, W, C), uint8 or uint16, upright; C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGB + alpha."""

    samples: np.ndarray
    icc: bytes | None
    exif: bytes | None


def decode(data: bytes) -> Decoded:
    """Decode the first picture in ``data``; raises whatever the decoder does, ValueError for other kinds."""
    file = io.BytesIO(data)
    image = _open(file)
    exif = _read_exif(image, file)
    samples = _decode16(image, data) if _is_16bit(image, data) else _decode8(image)
    return Decoded(_upright(samples, _orientation(image, exif)), image.info.get("icc_profile"), _keep(exif))


def read_size(file: BinaryIO) -> tuple[int, int]:
    """Upright height and width from the header."""
    image = _open(file)
    width, height = image.size
    return (width, height) if _orientation(image, _read_exif(image, file)) >= 5 else (height, width)


def encode(samples: np.ndarray, suffix: str, icc: bytes | None, exif: bytes | None) -> bytes:
    """Encode (H, W, C) samples, uint8 or (PNG, TIFF) uint16, in the format of ``suffix``."""
    if suffix in _TIFF:
        return _encode_tiff(samples, icc, exif)
    if samples.dtype == np.uint16:
        return _encode16_png(samples, icc, exif)
    file = io.BytesIO()
    image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    metadata: dict[str, Any] = {"icc_profile": icc, "exif": exif} if suffix != ".bmp" else {}
    image.save(file, **_SAVE_OPTIONS[suffix], **{key: value for key, value in metadata.items() if value})
    return file.getvalue()


def _open(file: BinaryIO) -> Image.Image:
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own limit warns from 90 megapixels on, refuses from 179
    image = Image.open(file, formats=_FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} is over the limit of {MAX_PIXELS} pixels")
    return image


def _is_16bit(image: Image.Image, data: bytes) -> bool:
    if image.format == "PNG":
        return data[24] == 16  # the bit depth in IHDR
    if not isinstance(image, TiffImageFile):
        return False
    bits, sample_format = set(image.tag_v2.get(258, (1,))), set(image.tag_v2.get(339, (1,)))
    if sample_format != {1} or bits not in ({1}, {8}, {16}):
        raise ValueError("its samples are neither 8- nor 16-bit unsigned integers")
    return bits == {16}


def _decode8(image: Image.Image) -> np.ndarray:
    image.load()
    transparent = "transparency" in image.info
    if image.mode in ("1", "L", "LA", "La"):
        mode = "LA" if transparent or image.mode in ("LA", "La") else "L"
    elif image.mode in ("P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "YCbCr"):
        mode = "RGBA" if transparent or image.mode in ("PA", "RGBA", "RGBa") else "RGB"
    else:
        raise ValueError(f"its colours are {image.mode}, not grey or RGB")
    return np.atleast_3d(np.array(image.convert(mode)))


def _decode16(image: Image.Image, data: bytes) -> np.ndarray:
    image.load()
    if image.mode.startswith("I"):
        return np.array(image).astype(np.uint16)[..., None]
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16 or samples.ndim != 3:
        raise ValueError("this kind of 16-bit picture is not supported")
    if image.format == "PNG" and data[25] == 4:  # the colour type in IHDR: grey with alpha
        return samples[..., [0, 3]]
    return samples[..., [2, 1, 0, 3][: samples.shape[2]]]


def _read_exif(image: Image.Image, file: BinaryIO) -> Image.Exif:
    if image.format != "PNG":
        return image.getexif()
    # Pillow would decode the whole PNG to look for an EXIF chunk behind the pixels.
    exif, position = Image.Exif(), file.tell()
    file.seek(8)
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind == b"eXIf":
            exif.load(file.read(length))
            break
        file.seek(length + 4, os.SEEK_CUR)
    file.seek(position)
    return exif


def _orientation(image: Image.Image, exif: Image.Exif) -> int:
    """The EXIF orientation, 1 to 8, that decoding leaves to us; TIFF decoders apply theirs."""
    orientation = exif.get(_ORIENTATION, 1) if image.format != "TIFF" else 1
    return orientation if orientation in range(1, 9) else 1


def _keep(exif: Image.Exif) -> bytes | None:
    kept = Image.Exif()
    for tag in _KEPT_TAGS:
        value = exif.get_ifd(tag) if tag in _IFDS else exif.get(tag)
        if value:
            kept[tag] = value
    return kept.tobytes() if len(kept) else None


def _upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation: row 0 is top, bottom, left or right; column 0 likewise."""
    if orientation >= 5:
        samples = samples.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def _encode16_png(samples: np.ndarray, icc: bytes | None, exif: bytes | None) -> bytes:
    if samples.shape[2] == 2:  # OpenCV writes no grey with alpha
        samples = samples[..., [0, 0, 0, 1]]
    elif samples.shape[2] >= 3:
        samples = samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    done, buffer = cv2.imencode(".png", samples)
    if not done:
        raise ValueError("OpenCV cannot encode it as PNG")
    data = buffer.tobytes()
    chunks = b""
    if icc:
        chunks += _png_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc))
    if exif:
        chunks += _png_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    behind_header = 8 + 25  # the signature and IHDR
    return data[:behind_header] + chunks + data[behind_header:]


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _encode_tiff(samples: np.ndarray, icc: bytes | None, exif: bytes | None) -> bytes:
    file = io.BytesIO()
    channels = samples.shape[2]
    tags = Image.Exif()
    if exif is not None:
        tags.load(exif)
    tifffile.imwrite(
        file,
        samples[..., 0] if channels == 1 else samples,
        photometric="rgb" if channels >= 3 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="zlib",
        iccprofile=icc,
        software=False,
        metadata=None,
        extratags=[(tag, "s", 0, text, True) for tag, text in tags.items() if isinstance(text, str)],
    )
    return file.getvalue()
