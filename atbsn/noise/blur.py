"""Gaussian blur with a standard deviation for each channel of each picture, and how strong what is left is."""

import torch
from torch import Tensor
from torch.nn import functional as F

_RADIUS = 4
"""Pixels: radius of the kernels of ``gaussian_blur``. Chosen by hand: 2.5 times the largest softness of the prior, 1.6,
and 1.7 times its largest smoothing of colour, 2.4, whose kernels are cut off there."""


def gaussian_blur(x: Tensor, std: Tensor, std_down: Tensor | None = None) -> Tensor:
    """Blur each channel of each picture by a Gaussian of its own.

    Args:
        x: (B, C, H, W).
        std: (B, C) standard deviations along rows, pixels. A channel with one of 0 stays as it is.
        std_down: (B, C) those along columns; None for the same as along rows.
    """
    planes = F.pad(x.reshape(1, -1, *x.shape[-2:]), (_RADIUS,) * 4, mode="reflect")
    kernel = _gaussian(std).to(x.dtype)
    planes = F.conv2d(planes, kernel[:, :, None], groups=len(kernel))
    kernel = kernel if std_down is None else _gaussian(std_down).to(x.dtype)
    return F.conv2d(planes, kernel[..., None], groups=len(kernel)).reshape(x.shape)


def _gaussian(std: Tensor) -> Tensor:
    """The kernels of N standard deviations, (N, 1, 2 _RADIUS + 1); each sums to 1."""
    places = torch.arange(-_RADIUS, _RADIUS + 1, device=std.device, dtype=std.dtype)
    kernel = torch.exp(-places.square() / (2 * std.reshape(-1, 1).clamp(min=0.05).square()))
    return (kernel / kernel.sum(dim=-1, keepdim=True))[:, None]


def level_of(x: Tensor) -> Tensor:
    """The root mean square of each picture, (B, 1, 1, 1)."""
    return x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


def with_level_of(x: Tensor, other: Tensor) -> Tensor:
    """Scale ``x`` (B, C, H, W) so that each picture has the root mean square of ``other``."""
    return x * (level_of(other) / level_of(x).clamp(min=1e-6))
