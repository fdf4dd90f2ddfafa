"""The base class of metrics, and functions that they share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np

from atbsn.utils.errors import UserError

PEAK = 255.0
"""Grey value of white, the peak of PSNR and SSIM."""
_STRIP_ROWS = 64
"""Rows that are converted to float64 at once, so that they stay in the cache. Chosen by hand."""

Rounding = bool | Literal["down"]
"""How values are rounded. True: half up, floor(x + 0.5); False: not at all; ``down``: as a cast to 8 bits does."""


class Metric(ABC):
    """``metric(image, reference)`` is the value of one picture.

    A new metric is a subclass with ``@METRICS.register``, in a file of its own in ``atbsn/metrics/`` or in a plug-in.
    Its name in option files is that of the class in small letters, and its arguments are those of the constructor.
    """

    higher_is_better: ClassVar[bool] = True
    digits: ClassVar[int] = 4
    """Digits after the decimal point in tables; files have all digits."""

    @property
    @abstractmethod
    def protocol(self) -> str:
        """How the value is computed, for logs and tables: ``psnr (RGB, clipped, rounded)``."""

    @abstractmethod
    def __call__(self, image: np.ndarray, reference: np.ndarray) -> float:
        """Measure ``image`` against ``reference``, both (H, W, 3), RGB, [0, 255].

        Raises:
            UserError: pictures of these shapes cannot be compared.
        """

    def suited(self, channels: int) -> "Metric":
        """Return the metric for pictures with this number of channels: this one, or another with its own protocol."""
        del channels
        return self

    def check_size(self, height: int, width: int, channels: int) -> None:
        """Raise a ``UserError`` if pictures of this size cannot be measured. It is called before any is measured."""
        return  # most metrics take any size


def quantize(picture: np.ndarray, *, round: Rounding, clip: bool) -> np.ndarray:
    """Copy ``picture`` as float64, rounded and clipped to [0, 255] as asked."""
    values = picture.astype(np.float64)
    if picture.dtype != np.uint8:
        if round:
            values += 0.0 if round == "down" else 0.5
            np.floor(values, out=values)
        if clip:
            np.clip(values, 0, PEAK, out=values)
    return values


def in_words(*, round: Rounding, clip: bool) -> str:
    """Describe rounding and clipping, for the end of a protocol: ``clipped, rounded``."""
    rounded = "rounded down" if round == "down" else "rounded" if round else "not rounded"
    return f"{'clipped' if clip else 'not clipped'}, {rounded}"


def strips(
    image: np.ndarray, reference: np.ndarray, *, round: Rounding, clip: bool, halo: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield strips of both pictures, as ``quantize`` gives them. Neighbouring strips share ``2 * halo`` rows."""
    last = len(image) - 2 * halo
    for top in range(0, last, _STRIP_ROWS):
        rows = slice(top, min(top + _STRIP_ROWS, last) + 2 * halo)
        yield (
            quantize(image[rows], round=round, clip=clip),
            quantize(reference[rows], round=round, clip=clip),
        )


def check_shapes(image: np.ndarray, reference: np.ndarray, rgb: bool = True) -> None:
    """Raise a ``UserError`` unless both are (H, W, C) of one size, with three channels if ``rgb``."""
    if image.shape != reference.shape or image.ndim != 3 or not image.size or (rgb and image.shape[2] != 3):
        raise UserError(
            f"pictures of shapes {image.shape} and {reference.shape} cannot be compared; "
            f"give two (H, W, {3 if rgb else 'C'}) arrays of one size"
        )


def check_sides(name: str, height: int, width: int, min_side: int) -> None:
    """Raise a ``UserError`` for a picture with a side of fewer than ``min_side`` pixels."""
    if min(height, width) < min_side:
        raise UserError(f"a picture of {height}x{width}: {name} needs at least {min_side}x{min_side}; leave it out")
