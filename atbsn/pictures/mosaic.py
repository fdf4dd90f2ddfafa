"""The colour mosaic of a camera's sensor, and its four colours as channels."""

from dataclasses import dataclass

import numpy as np

from atbsn.pictures.exif import DirectoryEntry

CHANNELS = 4
"""Number of channels of packed raw data: red, the green in its row, the other green, blue."""
_RED = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Row and column of the four pixels of a cell relative to its red pixel, in the order R, G, G, B."""


@dataclass(frozen=True)
class Mosaic:
    """Facts on the Bayer mosaic of a raw file, from which a DNG can be written.

    Attributes:
        size: height and width of the mosaic, pixels, not turned.
        phase: row and column of its first red pixel, 0 or 1 each.
        black: black level of R, G (in the row of R), G and B, in values of the file.
        white: the value in the file at which the sensor is saturated.
        orientation: 1 to 8, as in EXIF: how the developed picture is turned.
        tags: entries for a DNG on camera, colours and lens, in byte order ``order``.
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
    """Pack a mosaic (H, W) to (h, w, 4): R, G, G, B of each cell of RGGB.

    Pixels that cells at the edges lack are filled by reflection, which keeps the colours. So no pixel is lost.

    Args:
        values: the mosaic.
        phase: row and column of its first red pixel, 0 or 1 each.
    """
    (height, width), (down, right) = values.shape, phase
    padded = np.pad(values, ((down, (height + down) % 2), (right, (width + right) % 2)), mode="reflect")
    return np.ascontiguousarray(np.dstack([padded[row::2, column::2] for row, column in _RED]))


def unpack(cells: np.ndarray, phase: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Undo ``pack``: the mosaic (H, W) = ``size`` of ``cells`` (h, w, 4)."""
    height, width, _ = cells.shape
    values = np.empty((2 * height, 2 * width), cells.dtype)
    for channel, (row, column) in enumerate(_RED):
        values[row::2, column::2] = cells[..., channel]
    (down, right), (height, width) = phase, size
    return values[down : down + height, right : right + width]


def by_colour(values: tuple[float, ...], phase: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """(H, W) float32: for each pixel of a mosaic, that of the four ``values`` (R, G, G, B) for its colour."""
    cells = -(-(size[0] + phase[0]) // 2), -(-(size[1] + phase[1]) // 2)
    return unpack(np.broadcast_to(np.asarray(values, np.float32), (*cells, CHANNELS)), phase, size)
