"""The border between picture files and arrays: the only place where depth, channels and layout change.

Files hold uint8 or uint16, grey or RGB, with or without alpha. Inside, everything is RGB: (H, W, 3) arrays
here, (3, H, W) float tensors in [0, 255] in the networks.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import UnidentifiedImageError
from torch import Tensor

from atbsn.pictures import codecs, formats
from atbsn.pictures.formats import KINDS, Metadata, RefusedError
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_atomically
from atbsn.utils.log import logger

_NOTHING_THERE = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True)
class Picture(Metadata):
    """A decoded picture, upright, with what is needed to write the result in the same format.

    Attributes:
        rgb: (H, W, 3), uint8, or uint16 from files of more than 8 bits, or float32 in [0, 255].
        alpha: (H, W), of the depth of the file; carried through unchanged.
        grey: the file was grey; ``rgb`` repeats it, and writing averages it back.
        suffix: of the file to write: that of the file read, with its case (``".JPG"``); ``".tif"`` for camera RAW.
        icc, exif, xmp, iptc, notes, dpi, coding: see ``Metadata``.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    suffix: str = ".png"

    def rgb8(self) -> np.ndarray:
        """(H, W, 3) uint8, rounded half up."""
        return to_depth(self.rgb, np.uint8)


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Decode a picture file completely.

    PNG, JPEG, TIFF, BMP and WebP; with the extra ``[photos]`` HEIC, AVIF (8 bits) and camera RAW, which is developed to
    sRGB of 16 bits with the camera's white balance. CMYK becomes sRGB through its profile, or, with a warning in the
    log, without one. A preview, a gain map or a depth map behind a photograph is left out.

    Raises:
        UserError: missing, not a picture, truncated, corrupt, over ``formats.MAX_PIXELS``, of several pages or
            pictures, of another kind than 8- or 16-bit grey or RGB, with or without alpha or palette, or of a format
            whose library is not installed.
    """
    path = Path(path)
    with _reading(path):
        samples, metadata, suffix, warning = codecs.decode(path.read_bytes(), path.suffix.lower())
    if warning:
        logger.warning("%s: %s", path, warning)
    channels = samples.shape[2]
    colour, alpha = (samples[..., :-1], samples[..., -1].copy()) if channels in (2, 4) else (samples, None)
    grey = channels <= 2
    rgb = np.repeat(colour, 3, axis=2) if grey else np.ascontiguousarray(colour)
    carried = {field.name: getattr(metadata, field.name) for field in fields(Metadata)}
    return Picture(rgb, alpha, grey, suffix or path.suffix, **carried)


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width as ``read_picture`` would give them, from the header alone.

    Raises:
        UserError: missing, not a picture, of several pages or pictures, over ``formats.MAX_PIXELS``, or of a format
            whose library is not installed.
    """
    path = Path(path)
    with _reading(path), path.open("rb") as file:
        return codecs.read_size(path, file)


def written_name(path: str | os.PathLike[str], picture: Picture) -> Path:
    """``path`` with the suffix of a format that can be written: a camera's ``a/b.NEF`` becomes ``a/b.tif``."""
    path = Path(path)
    return path if path.suffix.lower() in formats.WRITTEN else path.with_suffix(picture.suffix)


def write_picture(path: str | os.PathLike[str], picture: Picture, quality: int | Literal["source"] = "source") -> None:
    """Write ``picture`` in the format that ``path`` names; the file appears complete or not at all.

    PNG and TIFF keep 16 bits, HEIC keeps 10 of them; the others get 8, rounded, and float becomes 8 bits everywhere.
    PNG, TIFF and BMP are without loss, and so is WebP unless its source had losses: then it gets quality 95.
    A JPEG from a JPEG keeps its source's quantisation tables, chroma subsampling and progression; if its tables are
    coarser than quality 90, it gets those of quality 90. A JPEG from anything else gets quality 98 and full
    chroma; HEIC and AVIF get quality 90. Of the metadata, each format takes what it can hold; BMP only the resolution.

    Args:
        quality: ``"source"``, or 1 to 100 for JPEG, HEIC, AVIF and WebP, instead of the above.

    Raises:
        UserError: an unknown format, alpha in a format without it, a picture too large for the format, a
            quality that is none, a folder that cannot be written, a full disk, a library that is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in formats.RAW:
        raise UserError(f"{path}: camera RAW is not written; write TIFF")
    if suffix not in formats.WRITTEN:
        raise UserError(f"{path}: '{suffix}' is not a known format; write {KINDS}")
    if picture.alpha is not None and suffix not in formats.ALPHA:
        raise UserError(f"{path}: {suffix[1:].upper()} holds no transparency; write PNG, TIFF or WebP")
    if quality != "source" and not 1 <= quality <= 100:
        raise UserError(f"quality: {quality} is not between 1 and 100; 90 to 98 is hard to tell from the original")
    deep = picture.rgb.dtype == np.uint16 and suffix in formats.DEEP
    samples = to_depth(picture.rgb, np.uint16 if deep else np.uint8)
    if picture.grey:
        samples = ((samples.sum(axis=2, keepdims=True, dtype=np.uint32) + 1) // 3).astype(samples.dtype)
    if picture.alpha is not None:
        samples = np.dstack([samples, to_depth(picture.alpha, samples.dtype)])
    try:
        data = codecs.encode(samples, suffix, picture, None if quality == "source" else quality)
    except RefusedError as error:
        raise UserError(f"{path}: cannot be written {error}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be encoded ({error}); try PNG or TIFF") from error
    write_atomically(path, lambda file: file.write(data))


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
def _reading(path: Path) -> Iterator[None]:
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
        raise UserError(f"{path}: cannot be read as a picture ({reason}); repair or remove it") from error
