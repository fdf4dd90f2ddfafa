"""The border between picture files and arrays: the only place where depth, channels and layout change.

Files hold 1 to 16 bits or floating-point numbers, grey or RGB, with or without alpha. Inside, everything is RGB:
(H, W, 3) arrays here, (3, H, W) float tensors in [0, 255] in the networks.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import UnidentifiedImageError
from torch import Tensor

from atbsn.pictures import dng, formats
from atbsn.pictures.colour import encoding
from atbsn.pictures.formats import KINDS, Codec
from atbsn.pictures.levels import from_level, to_level
from atbsn.pictures.metadata import Metadata, RefusedError, Samples
from atbsn.pictures.mosaic import Mosaic
from atbsn.pictures.targets import check_target, losses
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_atomically
from atbsn.utils.log import logger

White = float | Literal["auto"]
"""Which value of 16 bits or floating point is white. ``"auto"``: 65535, or 1, or the largest value above that."""

_UNSUPPORTED = re.compile("unsupported|not supported|not implemented|not configured", re.IGNORECASE)
"""What decoders say of files that are in order, as far as they know."""
_NOTHING_THERE = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True)
class Picture(Metadata):
    """A decoded picture, upright, with what is needed to write the result in the same format.

    Attributes:
        rgb: (H, W, 3), uint8, or uint16 from files of more than 8 bits, or float32 in [0, 255].
        alpha: (H, W), of the depth of the file; carried through unchanged.
        grey: the file was grey; ``rgb`` repeats it, and writing averages it back.
        suffix: of the file to write: that of the file read, with its case (``".JPG"``); ``".tif"`` for camera RAW.
        extra: (H, W, N), samples of no known meaning, as the file has them; carried through unchanged.
        white: the value in the file that is 65535, or 255 of float32, in ``rgb``; None: the largest that it can hold.
        mosaic: of a camera's raw data, as ``read_raw`` gives them: ``rgb`` is (h, w, 4) then, and becomes a DNG.
        icc, cicp, exif, xmp, iptc, notes, dpi, coding: see ``Metadata``.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    suffix: str = ".png"
    extra: np.ndarray | None = None
    white: float | None = None
    mosaic: Mosaic | None = None

    def rgb8(self) -> np.ndarray:
        """(H, W, 3) uint8, rounded half up."""
        return to_depth(self.rgb, np.uint8)


def read_picture(path: str | os.PathLike[str], *, white: White = "auto", page: int | None = None) -> Picture:
    """Decode a picture file completely.

    PNG, JPEG, TIFF, BMP, WebP and PPM; with the extra ``[photos]`` HEIC, AVIF (8 bits) and camera RAW, which is
    developed to sRGB of 16 bits with the camera's white balance. CMYK becomes sRGB through its profile, or, with a
    warning in the log, without one. What is left out (a gain map, a depth map, a motion photo's video, the other
    pages) or cut off is said in the log.

    Args:
        white: for TIFF, PNG and PPM of 16 bits and floating-point TIFF.
        page: of a TIFF or HEIF of several pictures, counted from 1; None: the primary one.

    Raises:
        UserError: missing, not a picture, truncated (but for JPEG), corrupt, over ``metadata.MAX_PIXELS``, animated, of
            another kind than grey or RGB of up to 16 bits or floating point, or of a format whose library is not
            installed.
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


def reader(white: White = "auto", page: int | None = None) -> Callable[[Path], "Picture"]:
    """``read_picture`` with these settings; itself where they are the usual ones.

    Raises:
        UserError: a white or a page that can be none.
    """
    _check_white(white)
    if page is not None and page < 1:
        raise UserError(f"page: {page} is not 1 or more; pages are counted from 1")
    return read_picture if white == "auto" and page is None else partial(read_picture, white=white, page=page)


def picture_size(path: str | os.PathLike[str], *, page: int | None = None) -> tuple[int, int]:
    """Height and width as ``read_picture`` would give them, from the header alone.

    Raises:
        UserError: missing, not a picture, animated, over ``metadata.MAX_PIXELS``, or of a format whose library is not
            installed.
    """
    path = Path(path)
    with reading(path), path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise RefusedError("it is empty", "repair or remove it")
        with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            codec = _codec(data, path)
        return codec.read_size(file, page)


def written_name(path: str | os.PathLike[str], picture: Picture) -> Path:
    """``path`` with the suffix of a format that can be written: a camera's ``a/b.NEF`` becomes ``a/b.tif``."""
    path = Path(path)
    return path if path.suffix.lower() in formats.WRITTEN else path.with_suffix(picture.suffix)


def write_picture(
    path: str | os.PathLike[str],
    picture: Picture,
    quality: int | Literal["source"] = "source",
    aside: Path | None = None,
) -> None:
    """Write ``picture`` in the format that ``path`` names; the file appears complete or not at all.

    PNG, TIFF and PPM keep 16 bits, HEIC keeps 10 of them; the others get 8, rounded. Floating point stays so in a TIFF
    whose source had it, becomes 16 bits elsewhere, and 8 where no file of 16 bits or floating point was read.
    PNG, TIFF, BMP and PPM are without loss, and so is WebP unless its source had losses: then it gets quality 95.
    A JPEG from a JPEG keeps its source's quantisation tables, chroma subsampling and progression; if its tables are
    coarser than quality 90, it gets those of quality 90. A JPEG from anything else gets quality 98 and full
    chroma; HEIC and AVIF get quality 90. Of the metadata, each format takes what it can hold; the rest is said in the
    log.

    Args:
        quality: ``"source"``, or 1 to 100 for JPEG, HEIC, AVIF and WebP, instead of the above.
        aside: folder to write it in before it is renamed, on the same file system; None: that of ``path``.

    Raises:
        UserError: as ``check_target``; a quality that is none, a folder that cannot be written, a full disk, a library
            that is not installed.
    """
    path = Path(path)
    codec = check_target(path, picture)
    if quality != "source" and not 1 <= quality <= 100:
        raise UserError(f"quality: {quality} is not between 1 and 100; 90 to 98 is hard to tell from the original")
    try:
        if picture.mosaic is not None:
            data = dng.encode(picture.rgb, picture.mosaic, picture)
        else:
            data = codec.encode(_samples(picture, codec), picture, None if quality == "source" else quality)
    except RefusedError as error:
        raise UserError(f"{path}: cannot be written {error}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be encoded ({error}); try PNG or TIFF") from error
    write_atomically(path, lambda file: file.write(data), aside)
    for loss in losses(codec, picture):
        logger.warning("%s: %s", path, loss)


def to_tensor(rgb: np.ndarray) -> Tensor:
    """(H, W, 3) uint8, uint16 or float32 to float32 (3, H, W) in [0, 255]; a copy, strided channels last."""
    values = rgb.astype(np.float32)
    if rgb.dtype == np.uint16:
        values /= 257
    return torch.from_numpy(values).permute(2, 0, 1)


def from_tensor(tensor: Tensor, dtype: np.dtype | type = np.uint8) -> np.ndarray:
    """(3, H, W) in [0, 255], on any device, to (H, W, 3), clipped; uint8 and uint16 are rounded half up."""
    values = tensor.detach().permute(1, 2, 0).float().clamp(0, 255)
    if dtype == np.uint8:
        values = (values + 0.5).to(torch.uint8)
    elif dtype == np.uint16:
        values = (values * 257 + 0.5).to(torch.int32)
    return np.ascontiguousarray(values.cpu().numpy(), dtype=dtype)


def _check_white(white: White) -> None:
    if white != "auto" and (isinstance(white, str) or not 0 < white < float("inf")):
        raise UserError(f"white: {white} is not above 0; give auto or the value that is white, such as 4095")


def _samples(picture: Picture, codec: Codec) -> Samples:
    """The numbers for a file of ``codec``'s format."""
    floats, level = picture.rgb.dtype == np.float32, picture.white
    values: np.ndarray
    if floats and level is not None and codec.holds.floats:
        values = picture.rgb * np.float32(level / 255)
    else:
        deep = (picture.rgb.dtype == np.uint16 or level is not None) and codec.holds.bits > 8
        values = to_depth(picture.rgb, np.uint16 if deep else np.uint8)
        if deep and level is not None and not floats and codec.states_white:
            values = from_level(values, level)
    if picture.grey:
        values = _mean(values)
    beside = []
    if picture.alpha is not None:
        beside.append(picture.alpha / 255 if values.dtype == np.float32 else to_depth(picture.alpha, values.dtype))
    if picture.extra is not None:
        beside.append(picture.extra if picture.extra.dtype == values.dtype else to_depth(picture.extra, values.dtype))
    if beside:
        values = np.dstack([values, *beside])
    return Samples(values, picture.alpha is not None, 0 if picture.extra is None else picture.extra.shape[2])


def _mean(values: np.ndarray) -> np.ndarray:
    """(H, W, 1), rounded half up."""
    if values.dtype == np.float32:
        return values.mean(axis=2, keepdims=True, dtype=np.float32)
    return ((values.sum(axis=2, keepdims=True, dtype=np.uint32) + 1) // 3).astype(values.dtype)


def _codec(data: bytes | mmap, path: Path) -> Codec:
    codec = formats.by_content(data, path)
    if codec is None:
        raise UnidentifiedImageError
    return codec


def to_depth(values: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """uint8, uint16 or float in [0, 255] to another of them; whole numbers are clipped and rounded half up.

    What goes to a deeper type comes back from there as it was.
    """
    if values.dtype == dtype:
        return values
    if dtype == np.float32:
        floats = values.astype(np.float32)
        return floats / 257 if values.dtype == np.uint16 else floats
    if values.dtype == np.uint8:
        return values.astype(np.uint16) * np.uint16(257)
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return (np.clip(values, 0, 255) * (257 if dtype == np.uint16 else 1) + 0.5).astype(dtype)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into one message that names the file."""
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
        remedy = "convert it to PNG or TIFF" if _UNSUPPORTED.search(reason) else "repair or remove it"
        raise UserError(f"{path}: cannot be read as a picture ({reason}); {remedy}") from error
