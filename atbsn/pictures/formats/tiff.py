"""TIFF: it reads more kinds than Pillow does, and writes EXIF, GPS, XMP, IPTC and the resolution."""

import io
import struct
from mmap import ACCESS_READ, mmap
from typing import BinaryIO

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from atbsn.pictures import exif, iptc
from atbsn.pictures.colour import profile
from atbsn.pictures.exif import DirectoryEntry
from atbsn.pictures.formats.codec import Codec, Holds
from atbsn.pictures.metadata import Coding, Decoded, Metadata, RefusedError, Samples, check_pixels, choose_page
from atbsn.pictures.pages import COMPRESSION, PHOTOMETRIC, RGB, YCBCR, TiffPage, full_size, main_pages, pages
from atbsn.pictures.pillow import decoded, in_srgb, open_image, samples_of
from atbsn.pictures.stored import LOSSLESS, PLAINLY, needs_bytes, stored_samples

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Beginnings of TIFF and BigTIFF files, little-endian and big-endian."""
_INCH, _CENTIMETRE = 2, 3
"""Values of ResolutionUnit."""
_ORIENTATION = 274
"""The tag Orientation."""
_DECODED = LOSSLESS | {2, 3, 4, 7, 32771, 32809}
"""Values of Compression that Pillow's libtiff decodes: the lossless ones, three kinds of fax and one of words, JPEG and
ThunderScan."""
_METHODS = {
    6: "JPEG of the old kind",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
"""Names of other values of Compression."""
_COLOURS = {0: "grey", 1: "grey", 2: "RGB", 3: "a palette", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}
"""Names of the values of PhotometricInterpretation."""


class Tiff(Codec):
    """TIFF and BigTIFF of 1 to 16 bits or floating point, also with transparency and extra samples."""

    name = "TIFF"
    suffixes = (".tif", ".tiff")
    holds = Holds(bits=16, floats=True, alpha=True, extra=True)
    states_white = True

    def sniff(self, data: bytes | mmap, suffix: str) -> bool:
        return data[:4] in _MAGIC

    def read_size(self, file: BinaryIO, page: int | None) -> tuple[int, int]:
        with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            found, _ = _choose(data, page)
            return _upright_size(found)

    def decode(self, data: bytes, page: int | None) -> Decoded:
        found, warnings = _choose(data, page)
        known = _metadata(data, found)
        if needs_bytes(found, data):
            samples, orientation = stored_samples(data, found), found.orientation
            if samples.extra:
                warnings += (_extra_samples(samples.extra),)
        else:
            image, samples, turned, more = _by_pillow(data, found)
            warnings += more
            known = in_srgb(image, known)
            orientation = 1 if turned else found.orientation
            if found.extra == (0,) and samples.values.shape[2] == 3:
                warnings += ("its fourth sample, of no stated meaning, is left out",)
        result, stated = decoded(samples, known, orientation, warnings), _upright_size(found)
        if result.samples.values.shape[:2] != stated:
            raise ValueError(f"its samples are not of the size {stated[1]}x{stated[0]} that its tags state")
        return result

    def encode(self, samples: Samples, picture: Metadata, quality: int | None) -> bytes:
        """Encode without loss (Deflate)."""
        entries, order = exif.for_tiff(picture.exif)
        found = {entry.tag: entry for entry in [*_resolution(picture.dpi, order), *entries]}
        icc, _ = profile(picture, samples.colours == 1)
        beside = {
            exif.XMP: (1, picture.xmp),
            exif.IPTC: (7, iptc.record(picture.iptc)),
            exif.PHOTOSHOP: (7, picture.iptc),
            exif.ICC: (7, icc),
        }
        found |= {tag: DirectoryEntry(tag, kind, len(value), value) for tag, (kind, value) in beside.items() if value}
        values, colours = samples.values, samples.colours
        if values.dtype == np.uint16 and values.shape[2] == 2 and samples.alpha:  # few programs read it as grey
            values, colours = values[..., [0, 0, 0, 1]], 3
        if values.dtype == np.float32 and picture.coding is not None and picture.coding.half:
            values = values.astype(np.float16)
        beyond = ["unassalpha"] * samples.alpha + ["unspecified"] * samples.extra
        file = io.BytesIO()
        tifffile.imwrite(
            file,
            values[..., 0] if values.shape[2] == 1 else values,
            byteorder="<" if order == "<" else ">",
            photometric="rgb" if colours == 3 else "minisblack",
            planarconfig="contig" if values.shape[2] > 1 else None,
            extrasamples=beyond or None,
            compression="zlib",
            software=False,
            metadata=None,
        )
        if found:
            describe(file, found, order)
        return file.getvalue()


CODEC = Tiff()


def _choose(data: bytes | mmap, page: int | None) -> tuple[TiffPage, tuple[str, ...]]:
    """The directory of the chosen picture, and warnings about the others."""
    found = pages(data)
    own = main_pages(found)
    number, warnings = own[0], tuple[str, ...]()
    if page is not None or len(own) > 1:
        number, warnings = choose_page("a TIFF", page, len(found), own[0])
    chosen = full_size(data, found[number])
    if not all(chosen.size):
        raise ValueError("it has no size")
    check_pixels(*chosen.size)
    return chosen, warnings


def _extra_samples(count: int) -> str:
    if count == 1:
        return "a sample of no stated meaning (a scanner's infrared?) is kept as it is"
    return f"{count} samples of no stated meaning are kept as they are"


def _by_pillow(data: bytes, page: TiffPage) -> tuple[Image.Image, Samples, bool, tuple[str, ...]]:
    """Decode a page by Pillow: the image, its samples, whether they are upright already, and warnings."""
    try:
        image = open_image(io.BytesIO(_pointing_at(data, page)), "TIFF")
        # Pillow turns a TIFF itself if the type of the tag is right.
        turned = isinstance(getattr(image, "tag_v2", {}).get(_ORIENTATION), int)
        samples, warnings = samples_of(image)
        return image, samples, turned, warnings
    except OSError as error:
        method = page.number(COMPRESSION, 1)
        if method not in _DECODED:
            name = _METHODS.get(method, f"method {method}")
            raise RefusedError(f"it is compressed by {name}, which is not decoded here", PLAINLY) from error
        if page.number(PHOTOMETRIC, RGB) == YCBCR and page.is_planar:
            raise RefusedError("its brightness and its colours are stored apart", "save it as RGB") from error
        if isinstance(error, UnidentifiedImageError):
            bits = "/".join(map(str, sorted(page.depths)))
            kind = (
                f"{page.samples} samples of {bits} bits, {_COLOURS.get(page.number(PHOTOMETRIC, RGB), 'other colours')}"
            )
            raise RefusedError(f"Pillow does not read TIFFs of its kind: {kind}", "save it as RGB") from error
        raise


def _upright_size(page: TiffPage) -> tuple[int, int]:
    """Height and width of the upright picture."""
    width, height = page.size
    return (width, height) if page.orientation >= 5 else (height, width)


def _pointing_at(data: bytes, page: TiffPage) -> bytes:
    """The file with ``page`` as its first directory."""
    directories = exif.Directories(data)
    if directories.first == page.at:
        return data
    place, code = (8, "Q") if directories.big else (4, "I")
    return data[:place] + struct.pack(directories.order + code, page.at) + data[place + struct.calcsize(code) :]


def _metadata(data: bytes, page: TiffPage) -> Metadata:
    """The metadata of a page. A picture in a sub-directory has those of the first directory."""
    block, beside = exif.collect(data, at=None if page.depth else page.at)
    resources, record = beside.get(exif.PHOTOSHOP), beside.get(exif.IPTC)
    if record and iptc.record(resources) is None:
        resources = iptc.wrap(record) + (resources or b"")
    return Metadata(
        icc=beside.get(exif.ICC),
        exif=block,
        xmp=beside.get(exif.XMP),
        iptc=resources,
        dpi=_dpi(page),
        coding=Coding("TIFF", half=page.formats == {3} and page.depths == {16}),
    )


def _dpi(page: TiffPage) -> tuple[float, float] | None:
    found = {entry.tag: entry.value for entry in page.entries if entry.tag in exif.RESOLUTION and entry.kind == 5}
    across, down, unit = exif.RESOLUTION
    if across not in found or down not in found or page.number(unit, _INCH) not in (_INCH, _CENTIMETRE):
        return None
    scale = 2.54 if page.number(unit, _INCH) == _CENTIMETRE else 1
    parts = [struct.unpack_from(page.order + "II", found[tag]) for tag in (across, down)]
    if not all(number and divisor for number, divisor in parts):
        return None
    return parts[0][0] / parts[0][1] * scale, parts[1][0] / parts[1][1] * scale


def _resolution(dpi: tuple[float, float] | None, order: str) -> list[DirectoryEntry]:
    """The entries for ``dpi``, with the denominator 10000. Entries of the source's EXIF replace them."""
    if dpi is None or not all(0 < value < 2**32 / 10000 for value in dpi):
        return []
    fractions = [struct.pack(order + "II", round(float(value) * 10000), 10000) for value in dpi]
    across, down, unit = exif.RESOLUTION
    return [
        DirectoryEntry(across, 5, 1, fractions[0]),
        DirectoryEntry(down, 5, 1, fractions[1]),
        DirectoryEntry(unit, 3, 1, struct.pack(order + "H", _INCH)),
    ]


def describe(file: io.BytesIO, found: dict[int, DirectoryEntry], order: str) -> None:
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
