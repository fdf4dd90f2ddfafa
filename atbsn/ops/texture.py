"""How much texture a picture has at each pixel (SASS, Li et al., CVPR 2023, arXiv 2303.14934)."""

import torch
from torch import Tensor

from atbsn.ops.padding import reflect_pad

WINDOW = 7
"""Pixels: side of the window of the local standard deviation, as published."""


def local_std(picture: Tensor) -> Tensor:
    """The standard deviation of the grey values in the 7 x 7 window around each pixel: (B, 3, H, W) -> (B, 1, H, W).

    Grey is the mean of the channels. The picture is reflected beyond its border. It is the population's standard
    deviation, computed around the mean of each window: E[g^2] - E[g]^2 would lose digits in bright pictures.
    """
    margin = WINDOW // 2
    grey = reflect_pad(picture.float().mean(dim=1, keepdim=True), margin, margin, margin, margin)
    return grey.unfold(2, WINDOW, 1).unfold(3, WINDOW, 1).var(dim=(-2, -1), correction=0).sqrt()


@torch.no_grad()
def texture_weight(picture: Tensor, flat_std: float = 1.0, texture_std: float = 5.0) -> Tensor:
    """The weight a of texture at each pixel: (B, 3, H, W), [0, 255] -> (B, 1, H, W) in (0, 1), without gradient.

    With s the ``local_std``::

        a = sigmoid(s - flat_std)  if s < flat_std,   sigmoid(s - texture_std)  if s > texture_std,   else 1/2
    """
    std = local_std(picture)
    return torch.sigmoid((std - flat_std).clamp(max=0) + (std - texture_std).clamp(min=0))
