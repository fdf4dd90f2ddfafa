"""The seed of the random numbers that a network draws for a picture: the same picture gives the same result everywhere.

All commands, the page and ``atbsn.denoise`` take it from the pixels.
"""

from zlib import crc32

import numpy as np
import torch
from torch import Tensor

_ROWS = 256
"""Rows of a picture that are rounded at a time, which takes a few megabytes. Chosen by hand."""


def picture_seed(noisy: Tensor) -> int:
    """Compute the seed of the random numbers for ``noisy``, (B, C, H, W) in [0, 255]: a checksum of size and pixels.

    The pixels are rounded to 8 bits first. So the name, format, place and depth of a file make no difference: the file,
    a copy under another name, and its pixels as an array in Python give the same seed. Pictures that differ in one
    rounded sample have different seeds.
    """
    seed = crc32(np.array(noisy.shape, "<u8").tobytes())
    for rows in noisy.permute(0, 2, 3, 1).split(_ROWS, dim=1):
        values = rows if rows.dtype == torch.uint8 else rows.float().clamp(0, 255).add(0.5).to(torch.uint8)
        seed = crc32(values.contiguous().cpu().numpy().tobytes(), seed)
    return seed
