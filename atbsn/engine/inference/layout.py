"""The positions of tiles: they cover a picture, begin where poolings begin, and overlap little."""

import math
from typing import Literal

Sizes = Literal["any", "fitted", "one"]
"""Whether tiles may have several sizes, one for each size of pictures, or one for all pictures (``spans``)."""

Span = tuple[int, int]
"""Where a tile begins and ends along a side of the picture, pixels."""

FADE = 16
"""Pixels: largest width of the strip in which one tile fades into the next. Chosen by hand: wide enough that no seam
shows, and the rest of the overlap is context."""
_MIN_SIDE_RATIO = 4
"""Smallest side of a tile, in units of the overlap: so a tile shares at most half of each side with its neighbours.
Chosen by hand."""
_MIN_SIDE = 64
"""Pixels: smallest side of a tile for any overlap. Chosen by hand: starting a pass costs more than a small tile."""


def context(overlap: int) -> int:
    """Number of shared pixels at the edge of a tile that are context only: there the result is the neighbour's.

    It is a quarter of ``overlap``. Where the overlap is wide, it is all but the ``FADE`` pixels in its middle.
    """
    return max(overlap // 4, (overlap - FADE) // 2)


def spans(length: int, side: int, overlap: int, multiple: int = 1, sizes: Sizes = "fitted") -> list[Span]:
    """Tiles of at most ``side`` pixels over ``length``, evenly spaced; neighbours share at least ``overlap``.

    A network with poolings pads what it is given at its end to a multiple. So tiles begin at multiples of that number:
    what is pooled together is then what is pooled together untiled. The last tile ends with the picture, so that the
    network pads there what it pads untiled. (Sides that are too short for that are not kept to multiples.)

    Args:
        multiple: all tiles begin at multiples of this number.
        sizes: which lengths tiles may have. ``any``: the last tile may be shorter, so that the least is computed twice.
            ``fitted``: all have the same length, which is that of the picture modulo ``multiple``; for a GPU, which
            keeps a pass for every size. ``one``: all have the length ``side``, for a compiled network; then the last
            tile need not begin at a multiple.
    """
    if length <= side:
        return [(0, length)]
    fitted = side - {"any": side, "fitted": side - length, "one": 0}[sizes] % multiple
    if fitted < 2 * overlap or fitted - overlap < multiple:
        fitted, multiple = side, 1
    steps = math.ceil((length - fitted) / multiple)
    count = math.ceil(steps / ((fitted - overlap) // multiple))
    starts = [number * steps // count * multiple for number in range(count + 1)]
    if sizes == "one":
        starts[-1] = length - fitted
    return [(start, min(start + fitted, length)) for start in starts]


def fewest_pixels(
    size: tuple[int, int],
    overlap: int,
    multiple: int,
    at_once: int,
    highest: int | None = None,
    sizes: Sizes = "fitted",
) -> tuple[int, int] | None:
    """Height and width of tiles of at most ``at_once`` pixels with which the fewest pixels are computed.

    Args:
        size: height and width of the picture.
        multiple: the network pads tiles to multiples of this number, and they begin at its multiples.
        highest: height of the tallest tile; None: any.
        sizes: as in ``spans``.

    Returns:
        None if the picture is done in one pass.
    """
    height, width = size
    if height * width <= at_once:
        return None
    found = []
    rows = _parts(height, overlap, multiple, sizes)
    for columns, across, wide in _parts(width, overlap, multiple, sizes):
        # The fewest rows that fit, or as many as there may be.
        fitting = (each for each in rows if each[1] * across <= at_once and each[1] <= (highest or height))
        _, down, high = next(fitting, rows[-1])
        found.append((max(0, down * across - at_once), high * wide, columns, down, across))
    down, across = min(found)[-2:]
    return max(down, 2 * overlap), max(across, 2 * overlap)  # one that is longer than the picture is as long as it


def _parts(length: int, overlap: int, multiple: int, sizes: Sizes) -> list[tuple[int, int, int]]:
    """List (number, side, pixels) for every number of tiles that are not too short: the least side with which so many
    tiles cover ``length``, and how many pixels the network then computes, padding included."""
    parts = [(1, length, _padded(length, multiple))]
    min_side = max(_MIN_SIDE_RATIO * overlap, _MIN_SIDE)
    for number in range(2, 2 + length // max(1, min_side - overlap)):
        side = max(min_side, math.ceil((length + (number - 1) * overlap) / number))
        side += ((length if sizes == "fitted" else 0) - side) % multiple
        while len(found := spans(length, side, overlap, multiple, sizes)) > number:
            side += multiple
        if len(found) == number and side < length:
            parts.append((number, side, sum(_padded(end - start, multiple) for start, end in found)))
    return parts


def _padded(side: int, multiple: int) -> int:
    return math.ceil(side / multiple) * multiple
