"""``Picture``, a decoded picture file, and the conversions of depth and layout between files, arrays and tensors.

Files hold 1 to 16 bits or floating-point numbers, grey or RGB, with or without alpha. A ``Picture`` always has RGB,
(H, W, 3). Networks get (3, H, W) float tensors in [0, 255].
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atbsn.pictures.metadata import Metadata
from atbsn.pictures.mosaic import Mosaic


@dataclass(frozen=True)
class Picture(Metadata):
    """A decoded picture, upright, with what is needed to write the result in the same format.

    Attributes:
        rgb: (H, W, 3), uint8; uint16 for files of more than 8 bits; or float32 in [0, 255].
        alpha: (H, W), of the depth of the file; it is written unchanged. None: there is none.
        grey: whether the file was grey. Then ``rgb`` has three equal channels, and their mean is written.
        suffix: suffix of the file to write: that of the file read (``".JPG"``), or ``".tif"`` for camera RAW.
        extra: (H, W, N), samples of no known meaning, as in the file; they are written unchanged. None: there are none.
        white: the value in the file for which ``rgb`` has white (65535, or 255 of float32); None: the largest value.
        mosaic: facts on the mosaic of raw data, as ``read_raw`` gives them. Then ``rgb`` is (h, w, 4), and is written
            as a DNG. None: it is a picture.
        icc, cicp, exif, xmp, iptc, notes, dpi, coding: see ``Metadata``.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    suffix: str = ".png"
    extra: np.ndarray | None = None
    white: float | None = None
    mosaic: Mosaic | None = None

    def rgb8(self) -> np.ndarray:
        """(H, W, 3) uint8, rounded half up."""
        return to_depth(self.rgb, np.uint8)


def to_depth(values: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """Convert between uint8, uint16 and float32 in [0, 255]. Integers are clipped and rounded half up.

    Values that are converted to a type of more bits and back stay the same.
    """
    if values.dtype == dtype:
        return values
    if dtype == np.float32:
        floats = values.astype(np.float32)
        return floats / 257 if values.dtype == np.uint16 else floats
    if values.dtype == np.uint8:
        return values.astype(np.uint16) * np.uint16(257)
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return (np.clip(values, 0, 255) * (257 if dtype == np.uint16 else 1) + 0.5).astype(dtype)


def to_tensor(rgb: np.ndarray) -> Tensor:
    """(H, W, 3) uint8, uint16 or float32 in [0, 255] to float32 (3, H, W) in [0, 255]; a copy, channels last."""
    values = rgb.astype(np.float32)
    if rgb.dtype == np.uint16:
        values /= 257
    return torch.from_numpy(values).permute(2, 0, 1)


def from_tensor(tensor: Tensor, dtype: np.dtype | type = np.uint8) -> np.ndarray:
    """(3, H, W) in [0, 255], on any device, to (H, W, 3) of ``dtype``, clipped; integers are rounded half up."""
    values = tensor.detach().permute(1, 2, 0).float().clamp(0, 255)
    if dtype == np.uint8:
        values = (values + 0.5).to(torch.uint8)
    elif dtype == np.uint16:
        values = (values * 257 + 0.5).to(torch.int32)
    return np.ascontiguousarray(values.cpu().numpy(), dtype=dtype)
