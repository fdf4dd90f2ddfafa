"""The local median of a picture."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.ops.padding import has_any_size, pad_to_multiple

_DEVIATION_OVER_MEAN_ABSOLUTE = (math.pi / 2) ** 0.5
"""Standard deviation of a Gaussian divided by its mean absolute value."""


@torch.no_grad()
def local_median(x: Tensor, side: int = 64, slack: float = 0.0) -> Tensor:
    """Medians of each channel over blocks of ``side`` x ``side`` pixels, bilinear between the blocks' centres.

    Args:
        x: (B, C, H, W), any size; blocks that reach beyond the edge are filled up by reflection.
        slack: how far a block's median may lie below 0 and still count as 0, in standard deviations of the block. A
            median that lies lower is raised by that much. The standard deviation is that of a Gaussian with the same
            mean distance from the median.

    Returns:
        (B, C, H, W), float32, without gradient.
    """
    height, width = x.shape[-2:]
    blocks = pad_to_multiple(x.float(), side).unflatten(-1, (-1, side)).unflatten(-3, (-1, side))
    blocks = blocks.transpose(-3, -2).flatten(-2)
    medians = _medians(blocks, has_any_size(x))
    if slack:
        deviations = _DEVIATION_OVER_MEAN_ABSOLUTE * (blocks - medians[..., None]).abs_().mean(dim=-1)
        medians = F.relu(medians) - F.relu(-medians - slack * deviations)
    return F.interpolate(medians, scale_factor=side, mode="bilinear", align_corners=False)[..., :height, :width]


def _medians(values: Tensor, exported: bool) -> Tensor:
    """The exact lower medians of (..., N), selected without sorting: (...)."""
    middle = (values.shape[-1] - 1) // 2
    if exported:  # ONNX has no median, so this takes the largest of the lower half
        return values.topk(middle + 1, largest=False, sorted=False).values.amax(dim=-1)
    if values.device.type == "cpu" and not torch.compiler.is_compiling() and type(values) is Tensor:
        return torch.from_numpy(np.partition(values.numpy(), middle, axis=-1)[..., middle])  # in half of torch's time
    return values.median(dim=-1).values
