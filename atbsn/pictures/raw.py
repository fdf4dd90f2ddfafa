"""Read the mosaic of a camera's raw file, linear and undeveloped, by rawpy: the extra ``[photos]``."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from atbsn.pictures import dng, exif
from atbsn.pictures.formats.raw import check_complete, is_dng, open_raw, raw_exif
from atbsn.pictures.image import Picture
from atbsn.pictures.metadata import RefusedError
from atbsn.pictures.mosaic import Mosaic, by_colour, pack
from atbsn.pictures.read import reading

_ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}
"""EXIF's orientation by LibRaw's ``flip``."""
_MIN_SIDE = 4
"""Pixels: smallest side of a mosaic. Chosen by hand: smaller ones cannot be reflected at their edges."""
_DEVELOP = "denoise the developed picture instead, without --raw"
"""The remedy for raw files without a Bayer mosaic."""


def read_raw(path: str | os.PathLike[str]) -> Picture:
    """Read the Bayer mosaic of a camera's raw file, packed and linear.

    Returns:
        A picture with ``rgb`` (h, w, 4), float32: R, G, G, B of each 2 x 2 pixels, (raw - black) / (white - black) x
        255, not clipped, so noise may be below 0. h and w are half the sides of the mosaic, rounded up to whole cells
        of RGGB. It is not turned; the orientation is in ``mosaic``, with which ``write_picture`` makes a DNG.

    Raises:
        UserError: as ``read_picture``; or the sensor has no Bayer mosaic of three colours (X-Trans, Foveon,
            monochrome), or the data are demosaicked already.
    """
    path = Path(path)
    with reading(path):
        data = path.read_bytes()
        with open_raw(io.BytesIO(data)) as raw:
            phase = _phase(raw)
            check_complete(raw)
            visible = raw.raw_image_visible
            black, white = _black(data, raw, visible.shape, phase), float(raw.white_level)
            if not max(black[1]) < white:
                raise ValueError(f"its black level {max(black[1]):g} is not below its white level {white:g}")
            scale = 255 / (white - by_colour(black[1], phase, visible.shape))
            linear = (visible - black[0]) * scale
            block = raw_exif(data)
            order = exif.for_tiff(block)[1]
            mosaic = Mosaic(
                visible.shape, phase, black[1], white, _ORIENTATIONS.get(raw.sizes.flip, 1),
                tuple(dng.tags(data if is_dng(data) else None, raw, exif.camera(block), order)), order,
            )  # fmt: skip
        beside = exif.collect(data)[1] if is_dng(data) else {}
    return Picture(pack(linear, phase), suffix=".dng", exif=block, xmp=beside.get(exif.XMP), mosaic=mosaic)


def raw_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width as ``read_raw`` would give them, without unpacking the data.

    Raises:
        UserError: as ``read_raw``.
    """
    path = Path(path)
    with reading(path), path.open("rb") as file, open_raw(file) as raw:
        down, right = _phase(raw)
        return -(-(raw.sizes.height + down) // 2), -(-(raw.sizes.width + right) // 2)


def _phase(raw: Any) -> tuple[int, int]:
    """Row and column of the first red pixel of the visible part, of a Bayer mosaic of red, green and blue.

    Raises:
        RefusedError: another kind of sensor.
    """
    pattern, names = raw.raw_pattern, raw.color_desc.decode()
    if raw.raw_type.name != "Flat":
        raise RefusedError("its pixels have all colours: a Foveon's, a small RAW or a linear DNG", _DEVELOP)
    if raw.num_colors == 1 or pattern is None or pattern.shape == (1, 1):
        raise RefusedError("its sensor has no colours, or no mosaic of them", _DEVELOP)
    if pattern.shape != (2, 2):
        rows, columns = pattern.shape
        kind = "X-Trans" if rows == 6 else "its colours repeat"
        raise RefusedError(f"{kind}: every {rows} x {columns} pixels, not a Bayer mosaic of 2 x 2", _DEVELOP)
    colours = "".join(names[index] for index in pattern.flat)
    if sorted(colours) != ["B", "G", "G", "R"] or colours[0] == colours[1] or colours[0] == colours[2]:
        raise RefusedError(f"its mosaic is {colours}, not of red, green and blue as Bayer's", _DEVELOP)
    height, width = raw.sizes.height, raw.sizes.width
    if raw.sizes.pixel_aspect == 1 and (raw.sizes.iheight, raw.sizes.iwidth) != (height, width):
        raise RefusedError("its pixels stand in diagonal rows", _DEVELOP)
    if min(height, width) < _MIN_SIDE:
        raise ValueError(f"{height}x{width} pixels are no picture")
    return divmod(colours.index("R"), 2)


def _black(
    data: bytes, raw: Any, size: tuple[int, int], phase: tuple[int, int]
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """The black level of each pixel, broadcastable to (H, W), and its mean for R, G, G and B.

    For a DNG it is read from the tags, because LibRaw gives only one level for each of four colours: not patterns
    larger than 2 x 2, and not offsets of rows and columns.
    """
    if is_dng(data):
        corner = raw.sizes.top_margin, raw.sizes.left_margin
        pixels = dng.black_level(data, corner, size)
        if pixels is not None:
            means = pack(np.broadcast_to(pixels, size), phase).mean(axis=(0, 1), dtype=np.float64)
            red, green, other, blue = map(float, means)
            return pixels, (red, green, other, blue)
    level = [float(value) for value in raw.black_level_per_channel]
    colours = raw.raw_pattern
    (down, right), places = phase, ((0, 0), (0, 1), (1, 0), (1, 1))
    red, green, other, blue = (level[colours[(down + row) % 2, (right + column) % 2]] for row, column in places)
    means = red, green, other, blue
    return by_colour(means, phase, size), means
