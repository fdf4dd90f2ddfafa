"""Which formats there are, what they can hold, and what is carried beside the pixels."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MAX_PIXELS = 2**28
"""Larger pictures (268 megapixels) are refused: a small file can claim any size and exhaust the memory."""

KINDS = "PNG, JPEG, TIFF, BMP or WebP"
TIFF = frozenset({".tif", ".tiff"})
JPEG = frozenset({".jpg", ".jpeg", ".jfif"})
HEIF = frozenset({".heic", ".heif"})
AVIF = frozenset({".avif"})
RAW = frozenset({".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".sr2", ".raf", ".orf", ".rw2", ".pef", ".srw"})
"""Camera RAW: read, never written; the developed picture is a TIFF of 16 bits."""

WRITTEN = frozenset({*JPEG, ".png", *TIFF, ".bmp", ".webp", *HEIF, *AVIF})
SUFFIXES = WRITTEN | RAW
DEEP = frozenset({".png", *TIFF, *HEIF})
"""Formats that hold 16 bits; HEIC 10 of them."""
ALPHA = frozenset({".png", *TIFF, ".webp", *HEIF, *AVIF})
"""Formats that hold transparency."""


class Coding(NamedTuple):
    """How the pixels of a lossy file were coded, so that its like can be written.

    Attributes:
        format: Pillow's name of the format: ``"JPEG"``, ``"WEBP"``, ``"HEIF"``, ``"AVIF"``.
        tables: JPEG's quantisation tables, 64 numbers each in rows, one for each component or for luma and chroma.
        subsampling: of the chroma of JPEG and HEIC: 0 none, 1 halved along rows, 2 halved both ways.
        progressive: JPEG in several scans.
        lossless: WebP without loss.
        colours: HEIF's colour primaries, transfer and matrix, where there is no ICC profile.
    """

    format: str
    tables: tuple[tuple[int, ...], ...] = ()
    subsampling: int = 0
    progressive: bool = False
    lossless: bool = False
    colours: dict[str, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a picture file says besides its pixels.

    Attributes:
        icc: colour profile.
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
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    notes: tuple[tuple[str, bytes], ...] = ()
    dpi: tuple[float, float] | None = None
    coding: Coding | None = None


class Decoded(NamedTuple):
    """Samples (H, W, C), uint8 or uint16, upright; C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGB + alpha.

    ``suffix`` is the format to write where the one read cannot be written; ``warning`` what the user should hear.
    """

    samples: np.ndarray
    metadata: Metadata
    suffix: str | None = None
    warning: str | None = None


class RefusedError(Exception):
    """A picture that is in order but not for us: the reason and the remedy."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"({reason}); {remedy}")


def check_pixels(width: int, height: int) -> None:
    """Refuse what would exhaust the memory."""
    if width * height > MAX_PIXELS:
        raise RefusedError(f"{width}x{height} is over the limit of {MAX_PIXELS} pixels", "make it smaller or cut it up")


def check_single(kind: str, pages: int) -> None:
    """Refuse files of several pictures, of which one would be written unsaid."""
    if pages > 1:
        raise RefusedError(f"{kind} of {pages} pictures, not one", "save each as a file of its own")


def missing(kind: str, package: str) -> RefusedError:
    """A format whose library is not installed."""
    return RefusedError(f"{kind} needs the package {package}", 'pip install "atbsn[photos]"')
