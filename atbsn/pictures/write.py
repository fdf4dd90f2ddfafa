"""Write pictures to files, in the depth of the format, completely or not at all."""

import os
from pathlib import Path
from typing import Literal

import numpy as np

from atbsn.pictures import dng, formats
from atbsn.pictures.formats import Codec
from atbsn.pictures.image import Picture, to_depth
from atbsn.pictures.levels import from_level
from atbsn.pictures.metadata import RefusedError, Samples
from atbsn.pictures.targets import check_target, losses
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_atomically
from atbsn.utils.log import logger


def written_name(path: str | os.PathLike[str], picture: Picture) -> Path:
    """``path`` with the suffix of a format that is written: ``a/b.NEF`` of a camera becomes ``a/b.tif``."""
    path = Path(path)
    return path if path.suffix.lower() in formats.WRITTEN else path.with_suffix(picture.suffix)


def write_picture(
    path: str | os.PathLike[str],
    picture: Picture,
    quality: int | Literal["source"] = "source",
    aside: Path | None = None,
) -> None:
    """Write ``picture`` in the format that the suffix of ``path`` names, completely or not at all.

    Of 16 bits each format keeps as many as it holds, rounded (docs/pictures.md). Floating point stays in a TIFF whose
    source had it. In other formats it becomes 16 bits, and 8 if the source had neither floating point nor 16 bits.
    WebP is without loss, unless its source was a lossy WebP; then it gets quality 95. A JPEG from a JPEG keeps the
    source's quantisation tables, chroma subsampling and progression, but not below quality 90. A JPEG from another
    format gets quality 98 and full chroma; HEIC and AVIF get quality 90. Metadata that a format cannot hold are left
    out; the log says so.

    Args:
        path: the file.
        picture: the picture.
        quality: ``"source"``: as described above; or 1 to 100 for JPEG, HEIC, AVIF and WebP.
        aside: folder of the temporary file, on the same file system; None: the folder of ``path``.

    Raises:
        UserError: as ``check_target``; or ``quality`` is out of range, the folder cannot be written, the disk is full,
            or a library is not installed.
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


def _samples(picture: Picture, codec: Codec) -> Samples:
    """The samples for a file of ``codec``'s format."""
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
    """The mean of the three channels, (H, W, 1), integers rounded half up."""
    # Channel by channel, because NumPy's sum over an axis of length three takes five times as long.
    red, green, blue = values[..., :1], values[..., 1:2], values[..., 2:3]
    if values.dtype == np.float32:
        return (red + green + blue) / np.float32(3)
    total = red.astype(np.uint32)
    total += green
    total += blue
    return ((total + 1) // 3).astype(values.dtype)
