"""What was done to a picture, in figures that need no clean one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from atbsn.engine.inference.pipeline.steps import Observer
from atbsn.engine.inference.pipeline.task import Task
from atbsn.noise.level import noise_before_and_after, sample_blocks
from atbsn.pictures import Picture

_CELL = 64
"""Side of the squares over which colours are averaged, pixels: noise and detail are gone."""
_TOLERANCE = 4.0
"""Grey values by which the mean of a square may move: more than noise can move it."""
_CUT_OFF = 0.8
"""Where black or white has cut noise off, the true mean is further out, by up to this part of what is left of it."""
_RARE = 0.01
_SEEN, _MOST = 2.0, 0.6
"""Grey values of noise that are seen; the share of it that is most."""
_FULL = 0.8
"""Strength from which on noise is expected to go."""
_GREY = "a grey picture, whose noise these weights leave in; clean the colour picture and make it grey then"


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
        grey: the noisy picture has equal channels.
    """

    noise_before: float | None
    noise_after: float | None
    drift: Drift | None
    grey: bool

    def warnings(self, strength: float) -> list[str]:
        """What one should know of a picture that was cleaned with ``strength``."""
        found = [] if self.drift is None else [str(self.drift)]
        if self.grey and self._left_noise_in and strength >= _FULL:
            found.append(_GREY)
        return found

    @property
    def _left_noise_in(self) -> bool:
        """Whether there was noise to see, and most of it is still there."""
        if self.noise_before is None or self.noise_after is None:
            return False
        return self.noise_before > _SEEN and self.noise_after > _MOST * self.noise_before

    def __str__(self) -> str:
        if self.noise_before is None or self.noise_after is None:
            return "too little to estimate its noise from"
        return f"noise {self.noise_before:.1f} -> {self.noise_after:.1f}"


@dataclass(frozen=True)
class Look:
    """What is remembered of a picture to compare it with what becomes of it: little, however large it is.

    Attributes:
        blocks: some of it, which its noise is estimated from.
        mean, deviation, cut_off: (squares, 3) of each square of 64 pixels, by channel: mean, standard deviation, share
            of pixels that are black or white.
        grey: its channels are equal.
    """

    blocks: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    cut_off: np.ndarray
    grey: bool

    @classmethod
    def at(cls, picture: np.ndarray) -> "Look":
        """At (H, W, 3), uint8, uint16 or float32 in [0, 255]. Held in memory is one row of squares."""
        mean, deviation, cut_off = (np.stack(values) for values in zip(*_squares(picture), strict=True))
        return cls(sample_blocks(picture), mean, deviation, cut_off, _is_grey(picture))


class Reporter(Observer):
    """Compares every picture of a run before and after: each result has its ``Report``."""

    def before(self, task: Task, noisy: Picture) -> Any:
        return Look.at(noisy.rgb)

    def after(self, task: Task, seen: Any, clean: Picture) -> Report:
        return report(seen, clean.rgb)


def report(noisy: np.ndarray | Look, clean: np.ndarray) -> Report:
    """Noise and colours of two pictures (H, W, 3) of one type, or of one that was looked at before: see ``Look.at``."""
    before, after = noisy if isinstance(noisy, Look) else Look.at(noisy), Look.at(clean)
    noise_before, noise_after = noise_before_and_after(before.blocks, after.blocks) or (None, None)
    return Report(noise_before, noise_after, _drift(before, after), before.grey)


def colour_drift(noisy: np.ndarray, clean: np.ndarray) -> Drift | None:
    """Whether the denoised picture has other colours than the noisy one, averaged until no noise is left."""
    return _drift(Look.at(noisy), Look.at(clean))


def _drift(before: Look, after: Look) -> Drift | None:
    allowed = _TOLERANCE + _CUT_OFF * before.deviation * (before.cut_off > _RARE)
    moves = (np.abs(after.mean - before.mean) - allowed).max(axis=1)
    moved = int((moves > 0).sum())
    if not moved or moved < _RARE * len(moves):
        return None
    worst = moves.argmax()
    return Drift(moved / len(moves), _colour(before.mean[worst]), _colour(after.mean[worst]))


def _is_grey(picture: np.ndarray) -> bool:
    """Whether the channels of (H, W, 3) are equal; of a part of its rows, which tells."""
    rows = picture[:: max(1, len(picture) // 64)]
    return bool((rows == rows[..., :1]).all())


def _squares(picture: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each square, by channel: mean, deviation, share of pixels that are black or white."""
    height, width = picture.shape[:2]
    scale = np.float32(1 / 257 if picture.dtype == np.uint16 else 1)
    rows, columns = (range(0, max(1, side - _CELL // 2), _CELL) for side in (height, width))
    for top in rows:
        band = picture[top : height if top == rows[-1] else top + _CELL].astype(np.float32) * scale
        for left in columns:
            square = band[:, left : width if left == columns[-1] else left + _CELL].reshape(-1, 3)
            ends = ((square <= 0) | (square >= 255)).mean(axis=0)
            yield square.mean(axis=0), square.std(axis=0), ends


def _colour(mean: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (round(float(value)) for value in mean)
    return red, green, blue
