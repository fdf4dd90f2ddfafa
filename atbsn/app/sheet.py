"""Sheets of crops at 1:1, before beside after, of places where noise and its removal are seen best."""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 320
"""Pixels: side of a crop that is shown; three of them side by side fit a screen."""
_CELL = 32
"""Pixels: side of the cells whose mean and texture are measured to choose the crops."""
_GAP, _HEAD = 8, 26
"""Pixels between crops, and above them for the captions."""
_BACKGROUND, _INK = (32, 32, 32), (232, 232, 232)
_KINDS = ("texture", "flat", "dark")


def choose_crops(rgb: np.ndarray, side: int = SIDE) -> dict[str, tuple[int, int]]:
    """Choose up to three squares that do not overlap: the most textured, a flat one and a dark one.

    Args:
        rgb: (H, W, 3), uint8, uint16 or float32 in [0, 255].
        side: of the squares, pixels.

    Returns:
        (top, left) of each square, by what it shows. At least one, also of a picture smaller than ``side``.
    """
    means, deviations = _cells(rgb)
    count = max(1, side // _CELL)
    places: list[tuple[int, int, float, float]] = []
    for row in range(0, max(1, means.shape[0] - count + 1), max(1, count // 4)):
        for column in range(0, max(1, means.shape[1] - count + 1), max(1, count // 4)):
            here = np.s_[row : row + count, column : column + count]
            places.append((row * _CELL, column * _CELL, float(means[here].mean()), float(np.median(deviations[here]))))
    merits = {
        "texture": lambda mean, texture: texture * (40 <= mean <= 215),
        "flat": lambda mean, texture: (1 if 50 <= mean <= 215 else 0.1) / (1 + texture),
        "dark": lambda mean, texture: (1 if mean >= 8 else 0.1) * (1 + min(texture, 10) / 10) / (10 + mean),
    }
    chosen: dict[str, tuple[int, int]] = {}
    for kind in _KINDS:
        free = [
            place
            for place in places
            if all(max(abs(place[0] - top), abs(place[1] - left)) >= side for top, left in chosen.values())
        ]
        if free:
            top, left, _, _ = max(free, key=lambda place: merits[kind](place[2], place[3]))
            chosen[kind] = (top, left)
    return chosen


def cut(picture: np.ndarray, places: Iterable[tuple[int, int]], side: int = SIDE) -> list[np.ndarray]:
    """Copies, as uint8, of the squares of ``picture`` (H, W, 3) at ``places`` (top, left)."""
    return [_eight_bits(picture[top : top + side, left : left + side].copy()) for top, left in places]


def sheet_of(columns: dict[str, list[np.ndarray]]) -> np.ndarray:
    """Show the same crops of several versions of one picture side by side at 1:1.

    Args:
        columns: by caption, the crops of one version, as ``cut`` gives them.

    Returns:
        (H, W, 3) uint8.
    """
    first = next(iter(columns.values()))
    height, width = first[0].shape[:2]
    canvas = Image.new(
        "RGB",
        (len(columns) * (width + _GAP) + _GAP, len(first) * (height + _GAP) + _HEAD),
        _BACKGROUND,
    )
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
    for column, (name, crops) in enumerate(columns.items()):
        x = _GAP + column * (width + _GAP)
        draw.text((x, 4), name, fill=_INK, font=font)
        for row, crop in enumerate(crops):
            canvas.paste(Image.fromarray(crop), (x, _HEAD + row * (height + _GAP)))
    return np.asarray(canvas)


def _cells(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the green channel in each cell of 32 x 32 pixels, in [0, 255].

    Returns:
        Two arrays (rows, columns) of cells; a picture smaller than a cell has one.
    """
    rows, columns = (max(1, length // _CELL) for length in rgb.shape[:2])
    scale = 1 / 257 if rgb.dtype == np.uint16 else 1
    means, deviations = np.empty((rows, columns)), np.empty((rows, columns))
    for row in range(rows):
        band = rgb[row * _CELL : (row + 1) * _CELL, :, 1].astype(np.float32) * scale
        cells = band[:, : columns * _CELL].reshape(band.shape[0], columns, -1).swapaxes(0, 1).reshape(columns, -1)
        means[row], deviations[row] = cells.mean(axis=1), cells.std(axis=1)
    return means, deviations


def _eight_bits(crop: np.ndarray) -> np.ndarray:
    return crop if crop.dtype == np.uint8 else (crop // 257 if crop.dtype == np.uint16 else crop).astype(np.uint8)
