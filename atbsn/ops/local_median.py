"""The local median: what most pixels of a neighbourhood have."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.ops.padding import has_any_size, pad_to_multiple

TOLERANCE = 1 / 128
"""How far a median may be from the exact one on a GPU, which selects among numbers of 16 bits. A step of a 16-bit file
is half of this."""


@torch.no_grad()
def local_median(x: Tensor, side: int = 64) -> Tensor:
    """Medians of each channel over blocks of ``side`` x ``side`` pixels, bilinear between the blocks' centres.

    Args:
        x: (B, C, H, W), any size; blocks that reach beyond the edge are filled up by reflection. On a GPU values beyond
            +-512 count as these, and medians are exact to ``TOLERANCE``.

    Returns:
        (B, C, H, W), float32, without gradient.
    """
    height, width = x.shape[-2:]
    blocks = pad_to_multiple(x.float(), side).unflatten(-1, (-1, side)).unflatten(-3, (-1, side))
    medians = _medians(blocks.transpose(-3, -2), has_any_size(x))
    return F.interpolate(medians, scale_factor=side, mode="bilinear", align_corners=False)[..., :height, :width]


def _medians(blocks: Tensor, exported: bool) -> Tensor:
    """The lower medians of (..., side, side): (...)."""
    middle = (blocks.shape[-2] * blocks.shape[-1] - 1) // 2
    if exported:  # ONNX has no median
        return blocks.flatten(-2).sort(dim=-1).values[..., middle]
    if blocks.is_cuda:  # radix selection: half the bits are half the passes
        return quantised(blocks).flatten(-2).median(dim=-1).values * (2 * TOLERANCE)
    blocks = blocks.flatten(-2)
    if blocks.device.type == "cpu" and not torch.compiler.is_compiling() and type(blocks) is Tensor:
        return torch.from_numpy(np.partition(blocks.numpy(), middle, axis=-1)[..., middle])  # in half of torch's time
    return blocks.median(dim=-1).values


def quantised(x: Tensor) -> Tensor:
    """``x`` in steps of twice ``TOLERANCE``, int16."""
    return (x / (2 * TOLERANCE)).round_().clamp_(-(2**15), 2**15 - 1).to(torch.int16)
