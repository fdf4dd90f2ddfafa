"""The border between picture files and arrays: the only place where depth, channels and layout change.

Files hold uint8 or uint16, grey or RGB, with or without alpha. Inside, everything is RGB: (H, W, 3) arrays
here, (3, H, W) float tensors in [0, 255] in the networks.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import UnidentifiedImageError
from torch import Tensor

from atbsn.utils import codecs
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_atomically

_KINDS = "PNG, JPEG, TIFF, BMP or WebP"


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright, with what is needed to write a picture of the same kind.

    Attributes:
        rgb: (H, W, 3), uint8, or uint16 from 16-bit files, or float32 in [0, 255].
        alpha: (H, W), of the depth of the file; carried through unchanged.
        grey: the file was grey; ``rgb`` repeats it, and writing averages it back.
        suffix: of the file name, with its case: ``".JPG"``.
        icc: colour profile.
        exif: EXIF block, without the orientation, which is already applied, and the thumbnail.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    suffix: str = ".png"
    icc: bytes | None = None
    exif: bytes | None = None

    def rgb8(self) -> np.ndarray:
        """(H, W, 3) uint8, rounded half up."""
        return _to_depth(self.rgb, np.uint8)


def image_paths(root: str | os.PathLike[str]) -> list[Path]:
    """The picture ``root`` itself, or all pictures below the folder ``root``, sorted, without hidden files.

    Raises:
        UserError: nothing there, no picture in it, or a folder that cannot be listed.
    """
    root = Path(root)
    if root.is_file():
        if root.suffix.lower() not in codecs.SUFFIXES:
            raise UserError(f"{root}: not a {_KINDS} file by its name; convert it first")
        return [root]
    if not root.is_dir():
        raise UserError(f"{root}: no such file or folder; check the path")

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions")

    paths = [
        Path(folder, name)
        for folder, _, names in os.walk(root, onerror=refuse)
        for name in names
        if not name.startswith(".") and Path(name).suffix.lower() in codecs.SUFFIXES
    ]
    if not paths:
        raise UserError(f"{root}: no picture in this folder or below; it needs {_KINDS} files")
    return sorted(paths, key=lambda path: path.relative_to(root).as_posix())


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Decode a picture file completely; of several pages, the first.

    Raises:
        UserError: missing, not a picture, truncated, corrupt, over ``codecs.MAX_PIXELS``, or of another kind
            than 8- or 16-bit grey or RGB, with or without alpha or palette.
    """
    path = Path(path)
    with _reading(path):
        samples, icc, exif = codecs.decode(path.read_bytes())
    channels = samples.shape[2]
    colour, alpha = (samples[..., :-1], samples[..., -1].copy()) if channels in (2, 4) else (samples, None)
    grey = channels <= 2
    rgb = np.repeat(colour, 3, axis=2) if grey else np.ascontiguousarray(colour)
    return Picture(rgb, alpha, grey, path.suffix, icc, exif)


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width as ``read_picture`` would give them, from the header alone.

    Raises:
        UserError: missing, not a picture, or over ``codecs.MAX_PIXELS``.
    """
    path = Path(path)
    with _reading(path), path.open("rb") as file:
        return codecs.read_size(file)


def write_picture(path: str | os.PathLike[str], picture: Picture) -> None:
    """Write ``picture`` in the format that ``path`` names; the file appears complete or not at all.

    PNG and TIFF keep 16 bits; the others get 8, rounded, and float becomes 8 bits everywhere. JPEG is written
    at quality 98 without chroma subsampling, the others without loss. Of EXIF, TIFF
    keeps the texts (camera, author, date) and BMP nothing.

    Raises:
        UserError: an unknown format, alpha in a format without it, a picture too large for the format, a
            folder that cannot be written, a full disk.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in codecs.SUFFIXES:
        raise UserError(f"{path}: '{suffix}' is not a known format; write {_KINDS}")
    if picture.alpha is not None and suffix not in codecs.ALPHA_SUFFIXES:
        raise UserError(f"{path}: {suffix[1:].upper()} holds no transparency; write PNG, TIFF or WebP")
    deep = picture.rgb.dtype == np.uint16 and suffix in codecs.DEEP_SUFFIXES
    samples = _to_depth(picture.rgb, np.uint16 if deep else np.uint8)
    if picture.grey:
        samples = ((samples.sum(axis=2, keepdims=True, dtype=np.uint32) + 1) // 3).astype(samples.dtype)
    if picture.alpha is not None:
        samples = np.dstack([samples, _to_depth(picture.alpha, samples.dtype)])
    try:
        data = codecs.encode(samples, suffix, picture.icc, picture.exif)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be encoded ({error}); try PNG") from error
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


def _to_depth(values: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """uint8, uint16 or float in [0, 255] to uint8 or uint16, rounded half up."""
    if values.dtype == dtype:
        return values
    if dtype == np.uint16:
        return values.astype(np.uint16) * np.uint16(257)
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return (np.clip(values, 0, 255) + 0.5).astype(np.uint8)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into one message that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except Exception as error:  # decoders raise nearly anything on corrupt data
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = f"not a {_KINDS} file, or a corrupt one"
        raise UserError(f"{path}: cannot be read as a picture ({reason}); repair or remove it") from error
