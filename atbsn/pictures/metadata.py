"""The metadata of a picture, and the data that are passed to and from the codecs of formats."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MAX_PIXELS = 2**28
"""Most pixels of a picture (268 megapixels). Chosen by hand: a small file can claim any size and exhaust the memory."""


class Coding(NamedTuple):
    """How the pixels of a file were coded, so that another file can be coded in the same way.

    Attributes:
        format: Pillow's name of the format: ``"JPEG"``, ``"WEBP"``, ``"HEIF"``, ``"AVIF"``, ``"TIFF"``.
        tables: JPEG's quantisation tables, 64 numbers each in rows, one for each component or for luma and chroma.
        subsampling: of the chroma of JPEG and HEIC: 0 none, 1 halved along rows, 2 halved both ways.
        progressive: JPEG in several scans.
        lossless: WebP without loss.
        half: TIFF of floating-point numbers of 16 bits.
    """

    format: str
    tables: tuple[tuple[int, ...], ...] = ()
    subsampling: int = 0
    progressive: bool = False
    lossless: bool = False
    half: bool = False


class CodePoints(NamedTuple):
    """Colours by their numbers in ITU-T H.273: PNG's ``cICP``, HEIC's and AVIF's ``nclx``."""

    primaries: int
    transfer: int
    matrix: int = 0
    full_range: bool = True


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """The metadata of a picture file. None: there are none of the kind.

    Attributes:
        icc: colour profile.
        cicp: the colours by numbers. They have priority over ``icc`` in formats that have both.
        exif: EXIF block, beginning with ``b"Exif\\0\\0"``, with GPS and maker notes. Its orientation is 1, since the
            picture is upright, and it has no thumbnail.
        xmp: XMP packet.
        iptc: Photoshop's image resources (``8BIM...``), which contain the IPTC record.
        notes: (kind, content) of metadata that only the same format can store: text and colour chunks of PNG, comments
            and extended XMP of JPEG.
        dpi: horizontal and vertical resolution, dots per inch.
        coding: how the pixels were coded.
    """

    icc: bytes | None = None
    cicp: CodePoints | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    notes: tuple[tuple[str, bytes], ...] = ()
    dpi: tuple[float, float] | None = None
    coding: Coding | None = None


class Samples(NamedTuple):
    """The samples of a picture as in its file.

    Attributes:
        values: (H, W, C), upright: grey or RGB, then alpha, then samples of no known meaning. uint8, uint16 or float32.
        alpha: whether there is an alpha channel; colours are not multiplied by it.
        extra: number of samples of no known meaning, such as a scanner's infrared.
    """

    values: np.ndarray
    alpha: bool = False
    extra: int = 0

    @property
    def colours(self) -> int:
        """The number of colours: 1 or 3."""
        return self.values.shape[2] - self.alpha - self.extra


class Decoded(NamedTuple):
    """A decoded file.

    Attributes:
        samples: the samples.
        metadata: the metadata.
        suffix: suffix of the format to write, if the format of the file is not written; otherwise None.
        warnings: warnings for the user.
    """

    samples: Samples
    metadata: Metadata
    suffix: str | None = None
    warnings: tuple[str, ...] = ()


class RefusedError(Exception):
    """A picture is not damaged but cannot be read or written; with the reason and the remedy."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"({reason}); {remedy}")


def check_pixels(width: int, height: int) -> None:
    """Raise a ``RefusedError`` if a picture has more than ``MAX_PIXELS``."""
    if width * height > MAX_PIXELS:
        raise RefusedError(f"{width}x{height} is over the limit of {MAX_PIXELS} pixels", "make it smaller or cut it up")


def check_single(kind: str, pictures: int) -> None:
    """Raise a ``RefusedError`` for animations: only one of their pictures would be written."""
    if pictures > 1:
        raise RefusedError(f"{kind} of {pictures} pictures, not one", "save each as a file of its own")


def choose_page(kind: str, page: int | None, count: int, primary: int = 0) -> tuple[int, tuple[str, ...]]:
    """The index of the chosen picture in a file of ``count``, and a warning about the others.

    Args:
        kind: the format, for messages.
        page: number of the picture, from 1; None: the primary one.
        count: number of pictures.
        primary: index of the primary one.

    Raises:
        RefusedError: there is no such page.
    """
    if page is not None:
        if not 1 <= page <= count:
            raise RefusedError(f"{kind} of {count} pictures has no page {page}", f"give --page 1 to {count}")
        return page - 1, ()
    if count == 1:
        return primary, ()
    return primary, (f"{kind} of {count} pictures: only number {primary + 1} is used; --page takes another",)


def missing(kind: str, package: str) -> RefusedError:
    """The error for a format whose library is not installed."""
    return RefusedError(f"{kind} needs the package {package}", 'pip install "atbsn[photos]"')
