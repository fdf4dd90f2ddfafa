"""Pictures people would rather look at than read: noisy | denoised | reference, each under its caption."""

from collections.abc import Mapping

import cv2
import numpy as np

_CAPTION, _GAP = 22, 4


def panel(pictures: Mapping[str, np.ndarray], side: int | None = 512, columns: int | None = None) -> np.ndarray:
    """Pictures of one size side by side.

    Args:
        pictures: captions to (H, W, 3) uint8 RGB; of another number of channels, their mean is shown.
        side: cut to the central square of this many pixels at most; None shows all.
        columns: pictures in a row; None: all.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    cells = [_captioned(_in_rgb(_centre(picture, side)), caption) for caption, picture in pictures.items()]
    columns = min(columns or len(cells), len(cells))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    height, width = cells[0].shape[:2]
    rows = len(cells) // columns
    canvas = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for number, cell in enumerate(cells):
        top, left = number // columns * (height + _GAP), number % columns * (width + _GAP)
        canvas[top : top + height, left : left + width] = cell
    return canvas


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
    bar = np.full((_CAPTION, picture.shape[1], 3), 32, np.uint8)
    (length, _), _ = cv2.getTextSize(caption, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    scale = min(0.5, 0.5 * (picture.shape[1] - 8) / max(1, length))
    cv2.putText(bar, caption, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate((bar, picture), axis=0)
