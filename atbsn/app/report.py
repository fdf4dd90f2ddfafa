"""What was done to a picture, in figures that need no clean one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from atbsn.noise.level import noise_level

_CELL = 64
"""Side of the squares over which colours are averaged, pixels: noise and detail are gone."""
_TOLERANCE = 4.0
"""Grey values by which the mean of a square may move: more than noise can move it."""
_CUT_OFF = 0.8
"""Where black or white has cut noise off, the true mean is further out, by up to this part of what is left of it."""
_RARE = 0.01


@dataclass(frozen=True)
class Drift:
    """Colours that are not what they were, averaged over squares of 64 pixels.

    Attributes:
        share: of the picture where they moved.
        before, after: R, G, B of the square that moved most.
    """

    share: float
    before: tuple[int, int, int]
    after: tuple[int, int, int]

    def __str__(self) -> str:
        return (
            f"colours have moved in {self.share:.0%} of the picture: {self.before} became {self.after}; "
            "these weights do not suit it, so use others or a lower strength"
        )


@dataclass(frozen=True)
class Report:
    """Before and after.

    Attributes:
        noise_before, noise_after: standard deviation of the noise, grey values of 255; None: too small a picture.
        drift: of colours; None where there is none.
    """

    noise_before: float | None
    noise_after: float | None
    drift: Drift | None

    def __str__(self) -> str:
        if self.noise_before is None or self.noise_after is None:
            return "too little to estimate its noise from"
        return f"noise {self.noise_before:.1f} -> {self.noise_after:.1f}"


def report(noisy: np.ndarray, clean: np.ndarray) -> Report:
    """Noise and colours of two pictures (H, W, 3) of one type: uint8, uint16 or float32 in [0, 255]."""
    return Report(noise_level(noisy), noise_level(clean), colour_drift(noisy, clean))


def colour_drift(noisy: np.ndarray, clean: np.ndarray) -> Drift | None:
    """Whether the denoised picture has other colours than the noisy one, averaged until no noise is left.

    Pictures as for ``report``. Held in memory is one row of squares.
    """
    moves: list[tuple[float, np.ndarray, np.ndarray]] = []
    for before, deviation, cut_off, after in _squares(noisy, clean):
        allowed = _TOLERANCE + _CUT_OFF * deviation * (cut_off > _RARE)
        moves.append((float((np.abs(after - before) - allowed).max()), before, after))
    moved = [move for move in moves if move[0] > 0]
    if not moved or len(moved) < _RARE * len(moves):
        return None
    _, before, after = max(moved, key=lambda move: move[0])
    return Drift(len(moved) / len(moves), _colour(before), _colour(after))


def _squares(noisy: np.ndarray, clean: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Of each square, by channel: mean and deviation before, share of pixels that are black or white, mean after."""
    height, width = noisy.shape[:2]
    scale = np.float32(1 / 257 if noisy.dtype == np.uint16 else 1)
    rows, columns = (range(0, max(1, side - _CELL // 2), _CELL) for side in (height, width))
    for top in rows:
        bottom = height if top == rows[-1] else top + _CELL
        bands = [picture[top:bottom].astype(np.float32) * scale for picture in (noisy, clean)]
        for left in columns:
            right = width if left == columns[-1] else left + _CELL
            before, after = (band[:, left:right].reshape(-1, 3) for band in bands)
            ends = ((before <= 0) | (before >= 255)).mean(axis=0)
            yield before.mean(axis=0), before.std(axis=0), ends, after.mean(axis=0)


def _colour(mean: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (round(float(value)) for value in mean)
    return red, green, blue
