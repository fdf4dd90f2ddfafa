"""Masks: which part of a picture is denoised, and which stays as it is."""

from pathlib import Path

import numpy as np

from atbsn.pictures.read import read_picture
from atbsn.utils.errors import UserError

_BAND = 2**22
"""Samples that are blended at a time. Chosen by hand: with copies, they take 48 MiB as float32."""


def read_mask(path: Path) -> np.ndarray:
    """Read a mask from a picture file: (H, W), uint8, uint16, or float32 in [0, 1], as ``check_mask`` accepts it.

    Raises:
        UserError: it is not a picture, or has colours or transparency.
    """
    picture = read_picture(path)
    values = picture.rgb[..., 0]
    if not picture.grey and any(not np.array_equal(values, picture.rgb[..., c]) for c in (1, 2)):
        raise UserError(f"{path}: a mask is grey, white where the picture is denoised, but it has colours; convert it")
    if picture.alpha is not None and picture.alpha.min() < _white(picture.alpha.dtype, 255):
        raise UserError(f"{path}: a mask has no transparency: white, grey and black tell all; flatten it")
    values = np.ascontiguousarray(values)
    return values / np.float32(255) if values.dtype == np.float32 else values


def check_mask(mask: np.ndarray, size: tuple[int, ...], name: str = "mask", picture: str = "the picture") -> None:
    """Raise a ``UserError`` unless ``mask`` fits a picture of ``size``, (H, W).

    Args:
        mask: (H, W), bool, uint8, uint16, or float in [0, 1].
        size: height and width of the picture.
        name: name of the mask in messages.
        picture: name of the picture in messages.
    """
    if mask.ndim != 2:
        raise UserError(f"{name}: shape {mask.shape} is not (H, W); a mask has one channel")
    if mask.shape != size:
        (rows, columns), (height, width) = mask.shape, size
        raise UserError(
            f"{name}: {columns} x {rows} pixels, but {picture} has {width} x {height}; make the mask as large as it"
        )
    if mask.dtype not in (bool, np.uint8, np.uint16) and not np.issubdtype(mask.dtype, np.floating):
        raise UserError(f"{name}: dtype {mask.dtype} is not bool, uint8, uint16 or float; convert it")
    if np.issubdtype(mask.dtype, np.floating) and not (mask.min() >= 0 and mask.max() <= 1):
        raise UserError(f"{name}: {mask.min():g} to {mask.max():g} is not within 0 and 1; divide it by its white")


def keep_where_black(noisy: np.ndarray, clean: np.ndarray, mask: np.ndarray) -> None:
    """Put the samples of ``noisy`` into ``clean`` where ``mask`` is black: clean <- (1 - m) noisy + m clean.

    Where the mask is white or black, samples are copied bit for bit.

    Args:
        noisy: (H, W, C), uint8, uint16 or float.
        clean: of the same shape and type; it is overwritten.
        mask: (H, W), as ``check_mask`` accepts it.
    """
    height, width, channels = clean.shape
    rows = max(1, _BAND // (width * channels))
    for top in range(0, height, rows):
        band = slice(top, top + rows)
        share = mask[band, :, None].astype(np.float32) / np.float32(_white(mask.dtype, 1))
        if (share == 1).all():
            continue
        blended = (1 - share) * noisy[band] + share * clean[band]
        clean[band] = np.rint(blended) if np.issubdtype(clean.dtype, np.integer) else blended


def _white(dtype: np.dtype, of_floats: int) -> int:
    if np.issubdtype(dtype, np.integer):
        return int(np.iinfo(dtype).max)
    return of_floats if np.issubdtype(dtype, np.floating) else 1
