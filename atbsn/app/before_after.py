"""Compare a picture before and after denoising: the level of its noise, and colours that have changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from atbsn.engine.inference.pipeline.steps import Observer
from atbsn.engine.inference.pipeline.task import Task
from atbsn.noise.level import noise_before_and_after, sample_blocks
from atbsn.ops.root import to_root
from atbsn.pictures import Picture

_CELL = 64
"""Pixels: side of the squares over which colours are averaged. Chosen by hand: so large that neither noise nor detail
changes their mean noticeably."""
_TOLERANCE = 4.0
"""Grey values by which the mean of a square may change. Chosen by hand: the mean of strong white noise (standard
deviation 60) has the standard deviation 60 / 64."""
_CLIPPED_TOLERANCE = 0.8
"""Further change of the mean that is allowed where black or white has clipped the noise, in units of the standard
deviation that is left. Clipping moves the mean inwards, and a denoiser moves it back: by 0.399 / 0.584 = 0.68 standard
deviations for Gaussian noise around black. The rest is a margin."""
_MIN_SHARE = 0.01
"""Smallest share of clipped pixels in a square that counts as clipped, and smallest share of the picture's squares with
changed colours that is reported. Chosen by hand."""
_VISIBLE_NOISE = 2.0
"""Grey values: smallest level of noise that is visible at 1:1. Chosen by hand."""
_MAX_NOISE_LEFT = 0.6
"""Largest share of the noise that may remain before the picture counts as not denoised. Chosen by hand: more than half,
with a margin, since the level that remains is estimated to about 10 %."""
_MIN_STRENGTH = 0.8
"""Smallest ``strength`` with which most of the noise is expected to be removed. Chosen by hand."""
_GREY = "a grey picture, whose noise these weights leave in; clean the colour picture and make it grey then"
"""The warning about a grey picture that was not denoised."""


@dataclass(frozen=True)
class Drift:
    """Mean colours of squares of 64 x 64 pixels that denoising has changed.

    Attributes:
        share: share, 0 to 1, of the squares whose colour changed.
        before, after: mean R, G, B (for raw data R, G, G, B) in [0, 255] of the square that changed most.
    """

    share: float
    before: tuple[int, ...]
    after: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"colours have moved in {self.share:.0%} of the picture: {self.before} became {self.after}; "
            "these weights do not suit it, so use others or a lower strength"
        )


@dataclass(frozen=True)
class BeforeAfter:
    """A picture before and after denoising.

    Attributes:
        noise_before, noise_after: standard deviation of the noise, grey values of 255; None if the picture is too
            small for an estimate.
        drift: the colours that changed; None if none did.
        grey: whether the channels of the noisy picture are equal.
    """

    noise_before: float | None
    noise_after: float | None
    drift: Drift | None
    grey: bool

    def warnings(self, strength: float) -> list[str]:
        """Warnings for the user about a picture that was denoised with ``strength``."""
        found = [] if self.drift is None else [str(self.drift)]
        if self.grey and self._left_noise_in and strength >= _MIN_STRENGTH:
            found.append(_GREY)
        return found

    @property
    def _left_noise_in(self) -> bool:
        """Whether there was visible noise and most of it remains."""
        if self.noise_before is None or self.noise_after is None:
            return False
        return self.noise_before > _VISIBLE_NOISE and self.noise_after > _MAX_NOISE_LEFT * self.noise_before

    def __str__(self) -> str:
        if self.noise_before is None or self.noise_after is None:
            return "too little to estimate its noise from"
        return f"noise {self.noise_before:.1f} -> {self.noise_after:.1f}"


@dataclass(frozen=True)
class Look:
    """A small summary of a picture, to be compared with the summary of the denoised picture.

    Attributes:
        blocks: (N, 16, 16, C), a sample of its blocks, from which its noise is estimated.
        mean, deviation, clipped: (squares, C): for each square of 64 x 64 pixels and each channel the mean and standard
            deviation in [0, 255], and the share of pixels that are black or white.
        grey: whether its channels are equal.
    """

    blocks: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    clipped: np.ndarray
    grey: bool

    @classmethod
    def at(cls, picture: np.ndarray) -> "Look":
        """Summarise ``picture``, (H, W, C), uint8, uint16 or float32 in [0, 255].

        If it is a memory-mapped file, only one row of squares is in memory at a time.
        """
        mean, deviation, clipped = (np.concatenate(values) for values in zip(*_squares(picture), strict=True))
        return cls(sample_blocks(picture), mean, deviation, clipped, _is_grey(picture))


class BeforeAfterObserver(Observer):
    """Compares every picture of a run before and after denoising. The result of each picture is a ``BeforeAfter``.

    Of raw data, which are linear, the square roots are compared, which are nearer to what is seen.
    """

    def before(self, task: Task, noisy: Picture) -> Any:
        return Look.at(_as_seen(noisy))

    def after(self, task: Task, seen: Any, clean: Picture) -> BeforeAfter:
        return compare_before_after(seen, _as_seen(clean))


def compare_before_after(noisy: np.ndarray | Look, clean: np.ndarray) -> BeforeAfter:
    """Compare a noisy picture with its denoised version.

    Args:
        noisy: (H, W, C), or its ``Look`` if the picture itself is overwritten.
        clean: the denoised picture, (H, W, C) of the same size and type.
    """
    before, after = noisy if isinstance(noisy, Look) else Look.at(noisy), Look.at(clean)
    noise_before, noise_after = noise_before_and_after(before.blocks, after.blocks) or (None, None)
    return BeforeAfter(noise_before, noise_after, _drift(before, after), before.grey)


def _as_seen(picture: Picture) -> np.ndarray:
    return picture.rgb if picture.mosaic is None else to_root(torch.from_numpy(picture.rgb)).numpy()


def _drift(before: Look, after: Look) -> Drift | None:
    allowed = _TOLERANCE + _CLIPPED_TOLERANCE * before.deviation * (before.clipped > _MIN_SHARE)
    moves = (np.abs(after.mean - before.mean) - allowed).max(axis=1)
    moved = int((moves > 0).sum())
    if not moved or moved < _MIN_SHARE * len(moves):
        return None
    worst = moves.argmax()
    return Drift(moved / len(moves), _colour(before.mean[worst]), _colour(after.mean[worst]))


def _is_grey(picture: np.ndarray) -> bool:
    """Whether the channels of ``picture`` (H, W, C) are equal in about 64 of its rows. These suffice."""
    rows = picture[:: max(1, len(picture) // 64)]
    return bool((rows == rows[..., :1]).all())


def _squares(picture: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield mean, standard deviation and share of black or white pixels of the squares of each row, each (squares, C).

    The last square of a row and of a column takes what is left over, up to one and a half sides.
    """
    height, width = picture.shape[:2]
    peak = 65535 if picture.dtype == np.uint16 else 255
    tops, lefts = (np.arange(0, max(1, side - _CELL // 2), _CELL) for side in (height, width))
    for top, bottom in zip(tops, [*tops[1:], height], strict=True):
        band = picture[top:bottom]
        values = band.astype(np.float32) * np.float32(255 / peak)
        size = (bottom - top) * np.diff([*lefts, width])[:, None]
        # Sum over rows first, since columns are contiguous in memory. float32 holds sums of 96 rows exactly enough.
        ends = np.add.reduce((band <= 0) | (band >= peak), axis=0, dtype=np.float32)
        sums = (values.sum(axis=0), np.einsum("hwc,hwc->wc", values, values), ends)
        mean, square, share = (np.add.reduceat(each, lefts, axis=0, dtype=np.float64) / size for each in sums)
        yield mean, np.sqrt(np.maximum(square - mean**2, 0)), share


def _colour(mean: np.ndarray) -> tuple[int, ...]:
    return tuple(round(float(value)) for value in mean)
