"""The local median: what most pixels of a neighbourhood have."""

import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.ops.padding import has_any_size, pad_to_multiple


@torch.no_grad()
def local_median(x: Tensor, side: int = 64) -> Tensor:
    """Medians of each channel over blocks of ``side`` x ``side`` pixels, bilinear between the blocks' centres.

    Args:
        x: (B, C, H, W), any size; blocks that reach beyond the edge are filled up by reflection.

    Returns:
        (B, C, H, W), float32, without gradient.
    """
    height, width = x.shape[-2:]
    blocks = pad_to_multiple(x.float(), side).unflatten(-1, (-1, side)).unflatten(-3, (-1, side))
    blocks = blocks.transpose(-3, -2).contiguous().flatten(-2)
    if has_any_size(x):  # ONNX has no median
        medians = blocks.sort(dim=-1).values[..., (side * side - 1) // 2]
    else:
        medians = blocks.median(dim=-1).values
    return F.interpolate(medians, scale_factor=side, mode="bilinear", align_corners=False)[..., :height, :width]
