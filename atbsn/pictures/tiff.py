"""TIFF: which kinds are read, and a writer that keeps EXIF, GPS, XMP, IPTC and the resolution."""

import io
import struct
from mmap import mmap

import numpy as np
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from atbsn.pictures import exif
from atbsn.pictures.formats import Metadata, RefusedError, check_single
from atbsn.pictures.jpeg import iptc_record, wrap_iptc

_BITS, _SAMPLE_FORMAT, _SUBFILE, _ICC, _DNG = 258, 339, 254, 34675, 50706
_MOST_PAGES = 1000  # enough to know that it is no photograph


def is_dng(data: bytes | mmap) -> bool:
    """A RAW file by another name; its first directory is a mosaic or a thumbnail."""
    try:
        directories = exif.Directories(data)
        return any(entry.tag == _DNG for entry in directories.read(directories.first)[0])
    except ValueError:
        return False


def is_16bit(image: TiffImageFile) -> bool:
    """Whether the samples have 16 bits; other depths than 1, 8 and 16 are refused."""
    bits, sample_format = set(image.tag_v2.get(_BITS, (1,))), set(image.tag_v2.get(_SAMPLE_FORMAT, (1,)))
    if sample_format != {1} or bits not in ({1}, {8}, {16}):
        raise RefusedError("its samples are neither 8- nor 16-bit unsigned integers", "save it with 8 or 16 bits")
    return bits == {16}


def check_pages(image: TiffImageFile) -> None:
    """Refuse several pages. Smaller copies and masks of the picture are no pages."""
    pages, number = 0, 0
    while number < _MOST_PAGES:
        try:
            image.seek(number)
        except EOFError:
            break
        pages += not image.tag_v2.get(_SUBFILE, 0) & 0b101
        number += 1
    image.seek(0)
    check_single("a TIFF", pages)


def metadata(image: Image.Image, data: bytes) -> Metadata:
    """What an opened TIFF says besides its pixels."""
    block, beside = exif.collect(data)
    resources, record = beside.get(exif.PHOTOSHOP), beside.get(exif.IPTC)
    if record and iptc_record(resources) is None:
        resources = wrap_iptc(record) + (resources or b"")
    return Metadata(
        icc=image.info.get("icc_profile"),
        exif=block,
        xmp=beside.get(exif.XMP),
        iptc=resources,
        dpi=image.info.get("dpi"),
    )


def encode(samples: np.ndarray, picture: Metadata) -> bytes:
    """Encode (H, W, C) samples of 8 or 16 bits, without loss."""
    entries, order = exif.for_tiff(picture.exif)
    found = {entry.tag: entry for entry in [*_resolution(picture.dpi, order), *entries]}
    beside = {
        exif.XMP: (1, picture.xmp),
        exif.IPTC: (7, iptc_record(picture.iptc)),
        exif.PHOTOSHOP: (7, picture.iptc),
        _ICC: (7, picture.icc),
    }
    found |= {tag: exif.Entry(tag, kind, len(value), value) for tag, (kind, value) in beside.items() if value}
    if samples.dtype == np.uint16 and samples.shape[2] == 2:  # which hardly any program reads
        samples = samples[..., [0, 0, 0, 1]]
    channels = samples.shape[2]
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        samples[..., 0] if channels == 1 else samples,
        byteorder="<" if order == "<" else ">",
        photometric="rgb" if channels >= 3 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="zlib",
        software=False,
        metadata=None,
    )
    if found:
        _describe(file, found, order)
    return file.getvalue()


def _resolution(dpi: tuple[float, float] | None, order: str) -> list[exif.Entry]:
    """The entries of ``dpi``, in ten-thousandths of a pixel; those of the source's EXIF go before them."""
    if dpi is None or not all(0 < value < 2**32 / 10000 for value in dpi):
        return []
    fractions = [struct.pack(order + "II", round(float(value) * 10000), 10000) for value in dpi]
    across, down, unit = exif.RESOLUTION
    return [
        exif.Entry(across, 5, 1, fractions[0]),
        exif.Entry(down, 5, 1, fractions[1]),
        exif.Entry(unit, 3, 1, struct.pack(order + "H", 2)),
    ]


def _describe(file: io.BytesIO, found: dict[int, exif.Entry], order: str) -> None:
    """Replace the directory of a TIFF by one at its end that also has the entries ``found``."""
    with file.getbuffer() as data:
        directories = exif.Directories(data)
        if directories.big:
            raise ValueError("too large for a TIFF with metadata")
        entries, _ = directories.read(directories.first)
        del directories
    end = file.seek(0, io.SEEK_END)
    end += file.write(bytes(end % 2))
    file.write(exif.directory({**{entry.tag: entry for entry in entries}, **found}.values(), order, end))
    file.seek(4)
    file.write(struct.pack(order + "I", end))
