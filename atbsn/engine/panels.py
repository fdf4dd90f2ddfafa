"""Pictures people would rather look at than read: noisy | denoised | reference side by side."""

from collections.abc import Mapping

import cv2
import numpy as np

_CAPTION = 22


def panel(pictures: Mapping[str, np.ndarray], side: int | None = 512) -> np.ndarray:
    """Pictures of one size side by side, each under its caption.

    Args:
        pictures: captions to (H, W, 3) uint8 RGB.
        side: cut to the central square of this many pixels at most; None shows all.

    Returns:
        (22 + H', n W' + 4 (n - 1), 3) uint8 RGB.
    """
    columns = []
    for caption, picture in pictures.items():
        if columns:
            columns.append(np.full((columns[0].shape[0], 4, 3), 255, np.uint8))
        columns.append(_captioned(_centre(picture, side), caption))
    return np.concatenate(columns, axis=1)


def _centre(picture: np.ndarray, side: int | None) -> np.ndarray:
    height, width = picture.shape[:2]
    if side is None:
        return picture
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return picture[top : top + side, left : left + side]


def _captioned(picture: np.ndarray, caption: str) -> np.ndarray:
    bar = np.full((_CAPTION, picture.shape[1], 3), 32, np.uint8)
    scale = min(0.5, 0.5 * (picture.shape[1] - 8) / max(1, cv2.getTextSize(caption, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]))
    cv2.putText(bar, caption, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate((bar, picture), axis=0)
