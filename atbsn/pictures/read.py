"""Read picture files of any format, with one message for every file that cannot be read."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import UnidentifiedImageError

from atbsn.pictures import formats
from atbsn.pictures.colour import encoding
from atbsn.pictures.formats import KINDS, Codec
from atbsn.pictures.image import Picture
from atbsn.pictures.levels import to_level
from atbsn.pictures.metadata import Metadata, RefusedError
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger

White = float | Literal["auto"]
"""The value of white in 16 bits or floating point. ``"auto"``: 65535; for floating point 1, or the largest value if
that is above 1."""

_UNSUPPORTED = re.compile("unsupported|not supported|not implemented|not configured", re.IGNORECASE)
"""Messages of decoders about files that are not damaged but of an unsupported kind."""
_ONLY_A_NUMBER = re.compile(r"decoder error -?\d+")
"""A message of Pillow that says nothing to a user."""
_NOTHING_THERE = (FileNotFoundError, NotADirectoryError)
"""Errors that mean that the file does not exist."""


def read_picture(path: str | os.PathLike[str], *, white: White = "auto", page: int | None = None) -> Picture:
    """Decode a picture file completely.

    Formats are those of ``atbsn.pictures.formats`` (docs/pictures.md). Camera RAW is developed to sRGB of 16 bits with
    the camera's white balance. CMYK is converted to sRGB by its profile; without one, the log warns. Parts that are
    left out (gain map, depth map, video of a motion photo, other pages) or cut off are reported in the log, too.

    Args:
        path: the file.
        white: value of white in files of 16 bits or floating point, of formats that leave it open (``states_white``).
        page: number of the picture in a TIFF or HEIF of several, from 1; None: the primary one.

    Raises:
        UserError: the file is missing, not a picture, truncated (except JPEG), corrupt, larger than
            ``metadata.MAX_PIXELS``, animated, not grey or RGB of up to 16 bits or floating point, or of a format whose
            library is not installed.
    """
    path = Path(path)
    _check_white(white)
    with reading(path):
        data = path.read_bytes()
        codec = _codec(data, path)
        samples, metadata, suffix, warnings = codec.decode(data, page)
        del data
        values, colours = samples.values, samples.colours
        colour, level = values[..., :colours], None
        if codec.states_white and values.dtype != np.uint8:
            colour, level, said = to_level(colour, white)
            warnings += said
    coded = encoding(metadata.cicp)
    if coded:
        warnings += (f"its colours are {coded}, of high dynamic range, and are taken as they are coded",)
    for warning in warnings:
        logger.warning("%s: %s", path, warning)
    alpha = values[..., colours].copy() if samples.alpha else None
    if alpha is not None and alpha.dtype == np.float32:
        alpha *= 255
    extra = values[..., -samples.extra :].copy() if samples.extra else None
    grey = colours == 1
    rgb = np.repeat(colour, 3, axis=2) if grey else np.ascontiguousarray(colour)
    carried = {field.name: getattr(metadata, field.name) for field in fields(Metadata)}
    return Picture(rgb, alpha, grey, suffix or path.suffix, extra, level, **carried)


def reader(white: White = "auto", page: int | None = None) -> Callable[[Path], Picture]:
    """``read_picture`` with these settings; with the default settings, ``read_picture`` itself.

    Raises:
        UserError: a setting is not valid.
    """
    _check_white(white)
    if page is not None and page < 1:
        raise UserError(f"page: {page} is not 1 or more; pages are counted from 1")
    return read_picture if white == "auto" and page is None else partial(read_picture, white=white, page=page)


def picture_size(path: str | os.PathLike[str], *, page: int | None = None) -> tuple[int, int]:
    """Height and width as ``read_picture`` would give them, from the header alone.

    Raises:
        UserError: the file is missing, not a picture, animated, larger than ``metadata.MAX_PIXELS``, or of a format
            whose library is not installed.
    """
    path = Path(path)
    with reading(path), path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise RefusedError("it is empty", "repair or remove it")
        with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            codec = _codec(data, path)
        return codec.read_size(file, page)


def _check_white(white: White) -> None:
    if white != "auto" and (isinstance(white, str) or not 0 < white < float("inf")):
        raise UserError(f"white: {white} is not above 0; give auto or the value that is white, such as 4095")


def _codec(data: bytes | mmap, path: Path) -> Codec:
    codec = formats.by_content(data, path)
    if codec is None:
        raise UnidentifiedImageError
    return codec


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Context that turns any exception of a decoder into a ``UserError`` that names the file."""
    try:
        yield
    except _NOTHING_THERE:
        raise UserError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{path}: cannot be read as a picture (a folder); name the files in it, or rename it") from None
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    except RefusedError as error:
        raise UserError(f"{path}: cannot be read as a picture {error}") from error
    except MemoryError as error:
        raise UserError(f"{path}: too large for the memory that is left; make it smaller or cut it up") from error
    except Exception as error:  # decoders raise nearly anything on corrupt data
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = f"not a {KINDS} file, or a corrupt one"
        if _ONLY_A_NUMBER.fullmatch(reason):
            reason = "its samples are damaged"
        remedy = "convert it to PNG or TIFF" if _UNSUPPORTED.search(reason) else "repair or remove it"
        raise UserError(f"{path}: cannot be read as a picture ({reason}); {remedy}") from error
