"""Panels: versions of a picture side by side, such as noisy, denoised and reference, each with its caption."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GAP = 8
"""Pixels between pictures, and around them. Chosen by hand."""
_HEAD, _TEXT = 26, 16
"""Pixels: height of the caption above a picture, and of its letters, which are smaller for a long caption. Chosen by
hand."""
_BACKGROUND, _INK = (32, 32, 32), (232, 232, 232)
"""RGB of the gaps and of the captions. Chosen by hand."""


def panel(pictures: Mapping[str, np.ndarray], side: int | None = 512, columns: int | None = None) -> np.ndarray:
    """Place pictures of one size side by side.

    Args:
        pictures: (H, W, 3) uint8 RGB by caption. For another number of channels, the mean of the channels is shown.
        side: pixels: longest side of the central part that is shown; None: all.
        columns: number of pictures in a row; None: all.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    cells = [_captioned(_in_rgb(_centre(picture, side)), caption) for caption, picture in pictures.items()]
    columns = min(columns or len(cells), len(cells))
    height, width = cells[0].shape[:2]
    canvas = _background(-(-len(cells) // columns) * (height + _GAP), columns * (width + _GAP) + _GAP)
    for number, cell in enumerate(cells):
        top, left = number // columns * (height + _GAP), number % columns * (width + _GAP) + _GAP
        canvas[top : top + height, left : left + width] = cell
    return canvas


def stacked(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Place pictures (H, W, 3) uint8 RGB of one width below one another, for one caption."""
    gap = _background(_GAP, pictures[0].shape[1])
    return np.concatenate([part for picture in pictures for part in (gap, picture)][1:])


def _background(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), _BACKGROUND, np.uint8)


def _centre(picture: np.ndarray, side: int | None) -> np.ndarray:
    height, width = picture.shape[:2]
    if side is None:
        return picture
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return picture[top : top + side, left : left + side]


def _in_rgb(picture: np.ndarray) -> np.ndarray:
    if picture.shape[2] == 3:
        return picture
    return np.repeat(picture.mean(axis=2, keepdims=True).round().astype(np.uint8), 3, axis=2)


def _captioned(picture: np.ndarray, caption: str) -> np.ndarray:
    width = picture.shape[1]
    head = Image.new("RGB", (width, _HEAD), _BACKGROUND)
    font = ImageFont.load_default(_TEXT)
    if font.getlength(caption) > width:
        font = ImageFont.load_default(max(1, int(_TEXT * width / font.getlength(caption))))
    ImageDraw.Draw(head).text((0, 4), caption, fill=_INK, font=font)
    return np.concatenate((np.asarray(head), picture))
