"""Camera RAW, developed by LibRaw through rawpy: the extra ``[photos]``."""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from atbsn.pictures import exif
from atbsn.pictures.colour import srgb_profile
from atbsn.pictures.formats import Decoded, Metadata, check_pixels, missing

_FUJI = b"FUJIFILMCCD-RAW"
_GAMMA = (2.4, 12.92)  # sRGB's curve


def decode(data: bytes) -> Decoded:
    """Develop to sRGB of 16 bits, with the camera's white balance, as bright as it was exposed."""
    library = _library()
    with _open(io.BytesIO(data)) as raw:
        samples = raw.postprocess(
            use_camera_wb=True,
            output_color=library.ColorSpace.sRGB,
            output_bps=16,
            gamma=_GAMMA,
            no_auto_bright=True,
        )
    metadata = Metadata(icc=srgb_profile(), exif=_exif(data), xmp=exif.collect(data)[1].get(exif.XMP))
    return Decoded(np.ascontiguousarray(samples), metadata, suffix=".tif")


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of the developed picture."""
    with path.open("rb") as file, _open(file) as raw:
        height, width = raw.sizes.iheight, raw.sizes.iwidth
        return (width, height) if raw.sizes.flip in (5, 6) else (height, width)


@contextmanager
def _open(file: Any) -> Iterator[Any]:
    library = _library()
    try:
        with library.imread(file) as raw:
            check_pixels(raw.sizes.raw_width, raw.sizes.raw_height)
            yield raw
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


def _exif(data: bytes) -> bytes | None:
    """EXIF and GPS, wherever the maker keeps them. Maker notes describe the RAW data and stay behind."""
    if data.startswith(_FUJI):  # in its JPEG
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
    """Of a CR3: boxes that hold the first directory, EXIF's and GPS's, each as a TIFF of its own."""
    entries: list[exif.Entry] = []
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
            entries.append(exif.Entry(tag, 4, 1, bytes(4), tuple(found)))
    return exif.block(entries, order, maker_notes=False)
