"""Camera RAW, developed by LibRaw through rawpy: the extra ``[photos]``."""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from atbsn.pictures import boxes, exif
from atbsn.pictures.colour import srgb_profile
from atbsn.pictures.formats.codec import Codec
from atbsn.pictures.metadata import Decoded, Metadata, Samples, check_pixels, missing

_FUJI = b"FUJIFILMCCD-RAW"
"""Beginning of a RAF file."""
_GAMMA = (2.4, 12.92)
"""LibRaw's parameters (exponent, slope at black) for sRGB's curve."""
_DNG = 50706
"""The tag DNGVersion, which every DNG has."""
_EMPTY_SHARE = 0.05
"""Largest share of the sensor's rows in which all pixels may have one value. Chosen by hand: noise makes such rows
impossible in measured data, but missing data give them, and some files have a small margin of them."""


class Raw(Codec):
    """Camera RAW: developed to sRGB of 16 bits with the camera's white balance, not brightened. It is never written."""

    name = "camera RAW"
    suffixes = (".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".sr2", ".raf", ".orf", ".rw2", ".pef", ".srw")
    library = "rawpy"
    writes = False
    asked_first = True  # most of them are TIFFs

    def sniff(self, data: bytes | mmap, suffix: str) -> bool:
        return suffix in self.suffixes or b"crx " in boxes.kind(data) or is_dng(data)

    def read_size(self, file: BinaryIO, page: int | None) -> tuple[int, int]:
        with open_raw(file) as raw:
            height, width = raw.sizes.iheight, raw.sizes.iwidth
            return (width, height) if raw.sizes.flip in (5, 6) else (height, width)

    def decode(self, data: bytes, page: int | None) -> Decoded:
        library = _library()
        with open_raw(io.BytesIO(data)) as raw:
            check_complete(raw)
            values = raw.postprocess(
                use_camera_wb=True,
                output_color=library.ColorSpace.sRGB,
                output_bps=16,
                gamma=_GAMMA,
                no_auto_bright=True,
            )
        found = Metadata(icc=srgb_profile(), exif=raw_exif(data), xmp=exif.collect(data)[1].get(exif.XMP))
        return Decoded(Samples(np.ascontiguousarray(values)), found, suffix=".tif")


CODEC = Raw()


def is_dng(data: bytes | mmap) -> bool:
    """Whether a file is a DNG, by a tag in its first directory."""
    try:
        directories = exif.Directories(data)
        return any(entry.tag == _DNG for entry in directories.read(directories.first)[0])
    except ValueError:
        return False


def check_complete(raw: Any) -> None:
    """Check that the sensor data are not cut off or missing. LibRaw develops such files without an error.

    Raises:
        ValueError: there are no data, or too many of the sensor's rows are empty.
    """
    values = raw.raw_image_visible
    if values is None or not values.size:
        raise ValueError("its sensor data are missing")
    values = values.reshape(len(values), -1, *values.shape[2:])
    empty = (values == values[:, :1]).reshape(len(values), -1).all(axis=1)
    clipped = values[:, 0].reshape(len(values), -1).max(axis=1) > raw.white_level // 2  # overexposed rows are uniform
    rows = int((empty & ~clipped).sum())
    if rows > _EMPTY_SHARE * len(values):
        raise ValueError(f"its sensor data are cut off or missing: {rows} of {len(values)} rows are empty")


@contextmanager
def open_raw(file: Any) -> Iterator[Any]:
    """Context with rawpy's object of a raw file.

    Raises:
        RefusedError: rawpy is not installed, or the picture is too large.
        ValueError: LibRaw cannot read it.
    """
    library = _library()
    try:
        with library.imread(file) as raw:
            check_pixels(raw.sizes.raw_width, raw.sizes.raw_height)
            yield raw
    except (library.LibRawIOError, library.LibRawDataError) as error:
        raise ValueError("its sensor data are cut off or damaged") from error
    except (library.LibRawError, library.NotSupportedError) as error:
        reason = error.args[0] if error.args else ""
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(reason or type(error).__name__) from error


def _library() -> Any:
    try:
        import rawpy
    except ImportError:
        raise missing("camera RAW", "rawpy") from None
    return rawpy


def raw_exif(data: bytes) -> bytes | None:
    """The EXIF block of a raw file with GPS; None if there is none. Maker notes are dropped: they describe RAW data."""
    if data.startswith(_FUJI):  # it is in the preview, a JPEG
        start, length = struct.unpack_from(">II", data, 84)
        try:
            with Image.open(io.BytesIO(data[start : start + length]), formats=("JPEG",)) as preview:
                block = preview.info.get("exif", b"").removeprefix(exif.PREFIX)
        except OSError:
            return None
    elif data[4:12] == b"ftypcrx ":
        return _canon(data)
    else:
        block = data
    return exif.collect(block, maker_notes=False)[0]


def _canon(data: bytes) -> bytes | None:
    """Read the metadata of a CR3: its boxes hold the first directory, EXIF's and GPS's, each as a TIFF of its own."""
    entries: list[exif.DirectoryEntry] = []
    order = "<"
    for box, tag in ((b"CMT1", None), (b"CMT2", exif.EXIF), (b"CMT4", exif.GPS)):
        at = data.find(box, 0, 2**20)
        if at < 4:
            continue
        (length,) = struct.unpack_from(">I", data, at - 4)
        try:
            directories = exif.Directories(data[at + 4 : at - 4 + length])
            found, _ = directories.read(directories.first)
        except ValueError:
            continue
        if tag is None:
            order = directories.order
            entries += [entry for entry in found if entry.children is None]
        elif directories.order == order:
            entries.append(exif.DirectoryEntry(tag, 4, 1, bytes(4), tuple(found)))
    return exif.block(entries, order, maker_notes=False)
