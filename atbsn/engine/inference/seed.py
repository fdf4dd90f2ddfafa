"""What a network draws on a picture is decided by its pixels: the same picture comes out the same by every door."""

from zlib import crc32

import numpy as np
import torch
from torch import Tensor

_ROWS = 256
"""Number of rows of a picture that are rounded at once, which takes a few megabytes. Chosen by hand."""


def picture_seed(noisy: Tensor) -> int:
    """Compute the seed of the random numbers for ``noisy``, (B, C, H, W) in [0, 255]: a checksum of size and pixels.

    The pixels count rounded to 8 bits. So neither a file's name, format or place nor the depth or scale in which its
    samples arrive makes a difference: a file, a copy of it under another name, and the array that Python was given of
    it come out the same. A picture that differs in a sample draws other numbers.
    """
    seed = crc32(np.array(noisy.shape, "<u8").tobytes())
    for rows in noisy.permute(0, 2, 3, 1).split(_ROWS, dim=1):
        values = rows if rows.dtype == torch.uint8 else rows.float().clamp(0, 255).add(0.5).to(torch.uint8)
        seed = crc32(values.contiguous().cpu().numpy().tobytes(), seed)
    return seed
