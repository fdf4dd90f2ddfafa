"""What every metric is, and what metrics share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np

from atbsn.utils.errors import UserError

PEAK = 255.0
"""Grey value of white, the peak of PSNR and SSIM."""
_STRIP_ROWS = 64  # float64 exists for strips of this many rows only: they stay in the cache

Rounding = bool | Literal["down"]
"""How values become whole grey values: half up, floor(x + 0.5); not at all; or down, as a cast to 8 bits does."""


class Metric(ABC):
    """``metric(image, reference)`` is the value of one picture.

    Another one is a subclass in a file of its own in ``atbsn/metrics/``, or in a plug-in, with ``@METRICS.register``:
    its name in option files is that of the class in small letters, its arguments those of the constructor.
    """

    higher_is_better: ClassVar[bool] = True
    digits: ClassVar[int] = 4
    """After the point, in tables for people; files have all."""

    @property
    @abstractmethod
    def protocol(self) -> str:
        """Which number this is, for people: ``psnr (RGB, clipped, rounded)``."""

    @abstractmethod
    def __call__(self, image: np.ndarray, reference: np.ndarray) -> float:
        """The value of ``image`` against ``reference``, both (H, W, 3), RGB, [0, 255].

        Raises:
            UserError: pictures of these shapes cannot be compared.
        """

    def suited(self, channels: int) -> "Metric":
        """What takes its place on pictures of so many channels, under a protocol of its own; itself, if it suits."""
        del channels
        return self

    def check_size(self, height: int, width: int, channels: int) -> None:
        """Raise a ``UserError`` if pictures of this size cannot be measured; called before anything is."""
        return  # most metrics take any


def quantize(picture: np.ndarray, round: Rounding, clip: bool) -> np.ndarray:
    """A float64 copy, made whole and clipped as asked."""
    values = picture.astype(np.float64)
    if picture.dtype != np.uint8:
        if round:
            values += 0.0 if round == "down" else 0.5
            np.floor(values, out=values)
        if clip:
            np.clip(values, 0, PEAK, out=values)
    return values


def in_words(round: Rounding, clip: bool) -> str:
    """The end of a protocol: ``clipped, rounded``."""
    rounded = "rounded down" if round == "down" else "rounded" if round else "not rounded"
    return f"{'clipped' if clip else 'not clipped'}, {rounded}"


def strips(
    image: np.ndarray, reference: np.ndarray, round: Rounding, clip: bool, halo: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Both pictures as new float64 strips that share ``2 * halo`` rows with their neighbours."""
    last = len(image) - 2 * halo
    for top in range(0, last, _STRIP_ROWS):
        rows = slice(top, min(top + _STRIP_ROWS, last) + 2 * halo)
        yield quantize(image[rows], round, clip), quantize(reference[rows], round, clip)


def check_shapes(image: np.ndarray, reference: np.ndarray, rgb: bool = True) -> None:
    """Raise a ``UserError`` unless both are (H, W, C) of one size, with three channels where ``rgb``."""
    if image.shape != reference.shape or image.ndim != 3 or not image.size or (rgb and image.shape[2] != 3):
        raise UserError(
            f"pictures of shapes {image.shape} and {reference.shape} cannot be compared; "
            f"give two (H, W, {3 if rgb else 'C'}) arrays of one size"
        )


def check_sides(name: str, height: int, width: int, least: int) -> None:
    """Raise a ``UserError`` for a picture with a side of fewer than ``least`` pixels."""
    if min(height, width) < least:
        raise UserError(f"a picture of {height}x{width}: {name} needs at least {least}x{least}; leave it out")
