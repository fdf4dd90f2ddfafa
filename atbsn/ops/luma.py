"""Brightness and colour of what a denoiser takes off."""

import torch
from torch import Tensor

_BT601 = (0.299, 0.587, 0.114)
"""Luma of R'G'B' values (ITU-R BT.601), as JPEG has it."""


def scale_apart(difference: Tensor, luma: float, colour: float) -> Tensor:
    """luma Y + colour (d - Y) for a ``difference`` d of two pictures, (..., 3, H, W); Y is its BT.601 luma, in all
    three channels.
    """
    if luma == colour:
        return difference if luma == 1 else luma * difference
    weights = torch.tensor(_BT601, dtype=difference.dtype, device=difference.device).view(3, 1, 1)
    brightness = (difference * weights).sum(dim=-3, keepdim=True)
    return (colour * difference).add_(brightness, alpha=luma - colour)
