"""Sheets that show crops at 1:1 before and after denoising, from the places that show noise and detail best."""

from collections.abc import Iterable

import numpy as np

from atbsn.engine.evaluation.panels import panel, stacked

SIDE = 320
"""Pixels: side of a crop that is shown. Chosen by hand: three of them side by side fit on a screen."""
_CELL = 32
"""Pixels: side of the cells whose mean and texture are measured to choose the crops. Chosen by hand."""
_KINDS = ("texture", "flat", "dark")
"""What the crops show, in the order in which they are chosen."""
_VISIBLE_MIN, _VISIBLE_MAX = 40, 215
"""Grey values: mean of a crop within which texture is seen well. Chosen by hand."""
_FLAT_MIN = 50
"""Grey values: smallest mean of the flat crop, which should not be a dark one. Chosen by hand."""
_BLACK_MAX = 8
"""Grey values: mean below which a crop is all black and shows nothing. Chosen by hand."""
_UNSUITED = 0.1
"""Factor on the merit of a crop whose mean is out of range. Chosen by hand: such a crop is chosen only if there is no
other."""
_ENOUGH_TEXTURE = 10
"""Grey values: standard deviation above which more texture does not make a dark crop better. Chosen by hand."""


def choose_crops(rgb: np.ndarray, side: int = SIDE) -> dict[str, tuple[int, int]]:
    """Choose up to three squares that do not overlap: the most textured, a flat one and a dark one.

    Args:
        rgb: (H, W, 3), uint8, uint16 or float32 in [0, 255].
        side: side of the squares, pixels.

    Returns:
        (top, left) of each square by what it shows, in pixels. There is at least one, even in a picture that is smaller
        than ``side``.
    """
    means, deviations = _cells(rgb)
    count = max(1, side // _CELL)
    places: list[tuple[int, int, float, float]] = []
    for row in range(0, max(1, means.shape[0] - count + 1), max(1, count // 4)):
        for column in range(0, max(1, means.shape[1] - count + 1), max(1, count // 4)):
            here = np.s_[row : row + count, column : column + count]
            places.append((row * _CELL, column * _CELL, float(means[here].mean()), float(np.median(deviations[here]))))
    merits = {
        "texture": lambda mean, texture: texture * (_VISIBLE_MIN <= mean <= _VISIBLE_MAX),
        "flat": lambda mean, texture: (1 if _FLAT_MIN <= mean <= _VISIBLE_MAX else _UNSUITED) / (1 + texture),
        "dark": lambda mean, texture: (
            (1 if mean >= _BLACK_MAX else _UNSUITED) * (1 + min(texture / _ENOUGH_TEXTURE, 1)) / (10 + mean)
        ),
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
    """Cut squares out of ``picture`` (H, W, 3) at ``places`` (top, left), as uint8 copies."""
    return [_eight_bits(picture[top : top + side, left : left + side].copy()) for top, left in places]


def sheet_of(columns: dict[str, list[np.ndarray]]) -> np.ndarray:
    """Show the same crops of several versions of one picture side by side at 1:1.

    Args:
        columns: the crops of each version, as ``cut`` gives them, by its caption.

    Returns:
        The sheet, (H, W, 3) uint8, RGB.
    """
    return panel({name: stacked(crops) for name, crops in columns.items()}, side=None)


def _cells(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the green channel in each cell of 32 x 32 pixels, in [0, 255].

    Returns:
        Two arrays (rows, columns), one value a cell. A picture smaller than a cell has one cell.
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
    """``crop`` as uint8, not rounded."""
    return crop if crop.dtype == np.uint8 else (crop // 257 if crop.dtype == np.uint16 else crop).astype(np.uint8)
