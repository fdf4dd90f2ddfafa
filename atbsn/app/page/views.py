"""Views: the samples of a picture that the page shows. The browser blends the noisy and the clean view itself, at once.

A view is (H, W, 3), RGB, little-endian int16, in units of 1/64 grey value, not clipped. The browser computes noisy +
strength (clean - noisy), rounds and clips. That equals the server's result, except that one of a hundred samples is
rounded the other way.
"""

import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageCms

from atbsn.utils.errors import UserError

STEPS = 64
"""Units of a view's samples in one grey value. Chosen by hand: the values of 8-bit pictures fit into 16 bits."""
LOUPE = 512
"""Pixels: longest side of a region that is shown at 1:1. Chosen by hand: larger than most screens."""
_MAX_SAMPLE = 2**15 - 1
"""Largest absolute value of a view's samples, which are integers of 16 bits."""


@dataclass(frozen=True)
class Region:
    """A rectangle inside of a picture, in pixels."""

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def within(cls, values: Any, facts: Mapping[str, Any]) -> "Region":
        """The region ``[left, top, width, height]``, reduced to the size of the loupe and moved into the picture.

        Raises:
            UserError: ``values`` are not four whole numbers.
        """
        if not isinstance(values, list) or len(values) != 4 or not all(type(value) is int for value in values):
            raise UserError(f"region {values}: left, top, width and height in whole pixels are needed")
        left, top, width, height = values
        width = max(1, min(width, LOUPE, facts["width"]))
        height = max(1, min(height, LOUPE, facts["height"]))
        left = min(max(0, left), facts["width"] - width)
        return cls(left, min(max(0, top), facts["height"] - height), width, height)

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.width)

    def with_margin(self, samples: np.ndarray, margin: int) -> tuple[np.ndarray, tuple[slice, slice]]:
        """The samples of the region with up to ``margin`` pixels around it, and the rows and columns of the region in
        them."""
        top, left = max(0, self.top - margin), max(0, self.left - margin)
        around = samples[top : self.top + self.height + margin, left : self.left + self.width + margin]
        rows = slice(self.top - top, self.top - top + self.height)
        return around, (rows, slice(self.left - left, self.left - left + self.width))


def grey_values(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, uint16 or float32 as float32 in [0, 255]."""
    values = rgb.astype(np.float32)
    if rgb.dtype == np.uint16:
        values /= 257
    return values


def shrink(rgb: np.ndarray, side: int) -> np.ndarray:
    """``rgb``, reduced by averaging to at most ``side`` pixels high and wide, of its own dtype."""
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return rgb
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


def view_bytes(values: np.ndarray, icc: bytes | None) -> bytes:
    """The view of ``values`` (H, W, 3), grey values, as bytes.

    Values of another colour space than sRGB are converted to sRGB, and rounded to whole grey values.
    """
    values = _as_srgb(values, icc)
    return np.clip(np.rint(values * STEPS), -_MAX_SAMPLE, _MAX_SAMPLE).astype("<i2").tobytes()


def _as_srgb(values: np.ndarray, icc: bytes | None) -> np.ndarray:
    """Convert to sRGB for a screen; a profile that cannot be read is ignored, as in other viewers."""
    if not icc:
        return values
    with suppress(ImageCms.PyCMSError, OSError):
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if profile.profile.xcolor_space.strip() == "RGB" and "srgb" not in ImageCms.getProfileName(profile).lower():
            image = Image.fromarray((np.clip(values, 0, 255) + 0.5).astype(np.uint8))
            shown = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"))
            assert shown is not None
            return np.asarray(shown, dtype=np.float32)
    return values
