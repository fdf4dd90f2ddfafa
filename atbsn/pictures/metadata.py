"""What is carried beside the pixels of a picture, and what a format's codec gives and takes."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MAX_PIXELS = 2**28
"""Larger pictures (268 megapixels) are refused: a small file can claim any size and exhaust the memory."""


class Coding(NamedTuple):
    """How the pixels of a file were coded, so that its like can be written.

    Attributes:
        format: Pillow's name of the format: ``"JPEG"``, ``"WEBP"``, ``"HEIF"``, ``"AVIF"``, ``"TIFF"``.
        tables: JPEG's quantisation tables, 64 numbers each in rows, one for each component or for luma and chroma.
        subsampling: of the chroma of JPEG and HEIC: 0 none, 1 halved along rows, 2 halved both ways.
        progressive: JPEG in several scans.
        lossless: WebP without loss.
        half: TIFF of 16-bit floating-point numbers.
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
    """What a picture file says besides its pixels.

    Attributes:
        icc: colour profile.
        cicp: the colours by numbers; they go before ``icc`` where a format has both.
        exif: EXIF block, beginning with ``b"Exif\\0\\0"``, GPS and maker notes included; its orientation is 1, since it
            is already applied, and it has no thumbnail.
        xmp: XMP packet.
        iptc: Photoshop's image resources (``8BIM...``), which hold the IPTC record.
        notes: (kind, content) of what only the same format takes: text and colour chunks of PNG, comments and extended
            XMP of JPEG.
        dpi: horizontal and vertical resolution.
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
    """The numbers of a picture as its file has them.

    Attributes:
        values: (H, W, C), upright: grey or RGB, then alpha, then samples of no known meaning. uint8, uint16 or float32.
        alpha: whether there is one; colours are not multiplied by it.
        extra: how many samples of no known meaning there are, such as a scanner's infrared.
    """

    values: np.ndarray
    alpha: bool = False
    extra: int = 0

    @property
    def colours(self) -> int:
        """1 or 3."""
        return self.values.shape[2] - self.alpha - self.extra


class Decoded(NamedTuple):
    """What a codec makes of a file.

    Attributes:
        samples: the numbers.
        metadata: the rest.
        suffix: of the format to write where the one read cannot be written.
        warnings: what the user should hear.
    """

    samples: Samples
    metadata: Metadata
    suffix: str | None = None
    warnings: tuple[str, ...] = ()


class RefusedError(Exception):
    """A picture that is in order but not for us: the reason and the remedy."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"({reason}); {remedy}")


def check_pixels(width: int, height: int) -> None:
    """Refuse what would exhaust the memory."""
    if width * height > MAX_PIXELS:
        raise RefusedError(f"{width}x{height} is over the limit of {MAX_PIXELS} pixels", "make it smaller or cut it up")


def check_single(kind: str, pictures: int) -> None:
    """Refuse animations, of which one picture would be written unsaid."""
    if pictures > 1:
        raise RefusedError(f"{kind} of {pictures} pictures, not one", "save each as a file of its own")


def choose_page(kind: str, page: int | None, count: int, primary: int = 0) -> tuple[int, tuple[str, ...]]:
    """The index of the wanted picture of a file of ``count``, and what is to be said of the others.

    Args:
        page: counted from 1; None: the ``primary`` one.
    """
    if page is not None:
        if not 1 <= page <= count:
            raise RefusedError(f"{kind} of {count} pictures has no page {page}", f"give --page 1 to {count}")
        return page - 1, ()
    if count == 1:
        return primary, ()
    return primary, (f"{kind} of {count} pictures: only number {primary + 1} is used; --page takes another",)


def missing(kind: str, package: str) -> RefusedError:
    """A format whose library is not installed."""
    return RefusedError(f"{kind} needs the package {package}", 'pip install "atbsn[photos]"')
