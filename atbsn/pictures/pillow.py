"""Functions for the formats that Pillow decodes."""

import re
from dataclasses import replace
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from atbsn.pictures import exif, metadata, xmp
from atbsn.pictures.colour import from_cmyk, srgb_profile
from atbsn.pictures.metadata import Decoded, Metadata, RefusedError, Samples, check_pixels

_STRIP = 256
"""Rows that are converted at a time. Chosen by hand."""


def open_image(file: BinaryIO, *kinds: str) -> Image.Image:
    """Open a picture of one of Pillow's formats ``kinds``, without decoding it.

    Raises:
        RefusedError: it is too large.
    """
    TiffImagePlugin.READ_LIBTIFF = True  # Pillow's own reader fails at subsampled chroma and at tiles over the edge
    Image.MAX_IMAGE_PIXELS = metadata.MAX_PIXELS  # Pillow's own limit warns from 90 megapixels on, refuses from 179
    try:
        image = Image.open(file, formats=kinds)
    except Image.DecompressionBombError as error:
        claimed = re.search(r"\d+", str(error))
        size = f"{claimed[0]} pixels are" if claimed else "it is"
        limit = f"{size} over the limit of {metadata.MAX_PIXELS} pixels"
        raise RefusedError(limit, "make it smaller or cut it up") from error
    check_pixels(*image.size)
    return image


def samples_of(image: Image.Image) -> tuple[Samples, tuple[str, ...]]:
    """The samples of an opened image, of 8 bits, and warnings.

    Raises:
        RefusedError: its colours are not grey, RGB, a palette, YCbCr or CMYK.
    """
    image.load()
    transparent = "transparency" in image.info
    if image.mode in ("1", "L", "LA", "La"):
        mode = "LA" if transparent or image.mode in ("LA", "La") else "L"
    elif image.mode in ("P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "YCbCr"):
        mode = "RGBA" if transparent or image.mode in ("PA", "RGBA", "RGBa") else "RGB"
    elif image.mode == "CMYK":
        converted, warning = from_cmyk(image)
        return Samples(np.array(converted)), (warning,) if warning else ()
    else:
        raise RefusedError(f"its colours are {image.mode}, not grey or RGB", "convert it to RGB, as sRGB")
    return Samples(_as_array(image, mode), alpha=mode.endswith("A")), ()


def in_srgb(image: Image.Image, found: Metadata) -> Metadata:
    """``found``, the metadata of ``image``; if it was CMYK, with the profile of sRGB, to which it was converted."""
    return replace(found, icc=srgb_profile() if found.icc else None) if image.mode == "CMYK" else found


def decoded(samples: Samples, found: Metadata, orientation: int = 1, warnings: tuple[str, ...] = ()) -> Decoded:
    """Make the ``samples`` and the metadata ``found`` of a file upright."""
    block = exif.upright(found.exif, transposed=orientation >= 5)
    samples = samples._replace(values=upright(samples.values, orientation))
    return Decoded(samples, replace(found, exif=block, xmp=xmp.upright(found.xmp)), warnings=warnings)


def orientation_of(found: Metadata) -> int:
    """The orientation, 1 to 8, in EXIF; without EXIF, in XMP."""
    return exif.orientation(found.exif) if found.exif else xmp.orientation(found.xmp)


def upright_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    """Height and width of the upright picture."""
    width, height = image.size
    return (width, height) if orientation >= 5 else (height, width)


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation: row 0 is top, bottom, left or right; column 0 likewise."""
    if orientation >= 5:
        values = values.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def as_image(samples: Samples) -> Image.Image:
    """Make a Pillow image of samples of 8 bits: L, LA, RGB or RGBA."""
    values = samples.values
    return Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)


def given(**options: object) -> dict[str, object]:
    """The options that are not None or empty."""
    return {name: value for name, value in options.items() if value}


def _as_array(image: Image.Image, mode: str) -> np.ndarray:
    """(H, W, C) uint8 of a loaded image, converted to ``mode``.

    It is done strip by strip, since Pillow needs 4 bytes a pixel, as many again to convert, and two copies to return.
    """
    values = np.empty((image.height, image.width, len(mode)), np.uint8)
    for top in range(0, image.height, _STRIP):
        bottom = min(top + _STRIP, image.height)
        strip = image.crop((0, top, image.width, bottom)).convert(mode)
        values[top:bottom] = np.atleast_3d(np.asarray(strip))
    return values
