"""How textured a picture is, pixel by pixel (SASS, Li et al., CVPR 2023, arXiv 2303.14934)."""

import torch
from torch import Tensor

from atbsn.ops.padding import reflect_pad

WINDOW = 7
"""Side of the window of the local standard deviation, pixels."""


def local_std(picture: Tensor) -> Tensor:
    """The standard deviation of grey over the 7 x 7 pixels around, reflected: (B, 3, H, W) -> (B, 1, H, W).

    Of the population, about each window's own mean: E[g^2] - E[g]^2 would lose its digits where the picture is bright.
    """
    margin = WINDOW // 2
    grey = reflect_pad(picture.float().mean(dim=1, keepdim=True), margin, margin, margin, margin)
    return grey.unfold(2, WINDOW, 1).unfold(3, WINDOW, 1).var(dim=(-2, -1), correction=0).sqrt()


@torch.no_grad()
def texture_weight(picture: Tensor, flat_std: float = 1.0, texture_std: float = 5.0) -> Tensor:
    """The weight a of texture: (B, 3, H, W), [0, 255] -> (B, 1, H, W) in (0, 1), without gradient.

    With s the ``local_std``::

        a = sigmoid(s - flat_std)  if s < flat_std,   sigmoid(s - texture_std)  if s > texture_std,   else 1/2
    """
    std = local_std(picture)
    return torch.sigmoid((std - flat_std).clamp(max=0) + (std - texture_std).clamp(min=0))
