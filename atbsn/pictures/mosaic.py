"""The colour mosaic of a camera's sensor, and its four colours as channels."""

from dataclasses import dataclass

import numpy as np

from atbsn.pictures.exif import DirectoryEntry

CHANNELS = 4
"""Number of channels of packed raw data: red, the green in its row, the other green, blue."""
_RED = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Row and column of every pixel of a cell, from its red one on: R, G, G, B of RGGB."""


@dataclass(frozen=True)
class Mosaic:
    """What a raw file says of its Bayer mosaic, with which another one can be written.

    Attributes:
        size: height and width of the mosaic, as the sensor stands, in pixels.
        phase: row and column of its first red pixel, 0 or 1 each.
        black: of R, G (in the row of R), G and B, in levels of the file.
        white: the level at which the sensor is full.
        orientation: 1 to 8, as in EXIF: how the developed picture is to be turned.
        tags: of a DNG: camera, colours, lens. In byte order ``order``.
        order: ``"<"`` or ``">"``.
    """

    size: tuple[int, int]
    phase: tuple[int, int]
    black: tuple[float, float, float, float]
    white: float
    orientation: int = 1
    tags: tuple[DirectoryEntry, ...] = ()
    order: str = "<"


def pack(values: np.ndarray, phase: tuple[int, int]) -> np.ndarray:
    """(H, W) of a mosaic to (h, w, 4): R, G, G, B of every cell of RGGB, whatever the ``phase``.

    What a cell at an edge lacks is reflected, which keeps the colours: no pixel is lost.
    """
    (height, width), (down, right) = values.shape, phase
    padded = np.pad(values, ((down, (height + down) % 2), (right, (width + right) % 2)), mode="reflect")
    return np.ascontiguousarray(np.dstack([padded[row::2, column::2] for row, column in _RED]))


def unpack(cells: np.ndarray, phase: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The mosaic (H, W) of ``size`` that ``pack`` made ``cells`` of."""
    height, width, _ = cells.shape
    values = np.empty((2 * height, 2 * width), cells.dtype)
    for channel, (row, column) in enumerate(_RED):
        values[row::2, column::2] = cells[..., channel]
    (down, right), (height, width) = phase, size
    return values[down : down + height, right : right + width]


def by_colour(values: tuple[float, ...], phase: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """(H, W) float32: what of R, G, G and B, in ``values``, every pixel of a mosaic has."""
    cells = -(-(size[0] + phase[0]) // 2), -(-(size[1] + phase[1]) // 2)
    return unpack(np.broadcast_to(np.asarray(values, np.float32), (*cells, CHANNELS)), phase, size)
