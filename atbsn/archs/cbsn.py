"""C-BSN: one network whose blind spot is switched on and off (Jang et al., ICCV 2023, arXiv 2304.09507)."""

from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from atbsn.archs.base import Network, Tiled, in_full_precision, untiled
from atbsn.ops.convolution import Conv2d
from atbsn.ops.dilation import DilatedConv2d, through_dilated
from atbsn.ops.surround import surrounded
from atbsn.registry import ARCHS
from atbsn.utils.types import PositiveInt

PADDING = 32
"""Pixels of reflection around a picture that is denoised: the receptive radius, 2 + 9 * 3 = 29, rounded up."""


class SwitchableConv2d(Conv2d):
    """'Same' convolution that leaves out the centre tap of its kernel if ``blind``."""

    mask: Tensor

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2)
        mask = torch.ones(1, 1, kernel_size, kernel_size)
        mask[..., kernel_size // 2, kernel_size // 2] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor, blind: bool = False) -> Tensor:
        return self._conv_forward(x, self.weight * self.mask if blind else self.weight, self.bias)


class CBSNModule(nn.Module):
    """x + ReLU(1x1(ReLU(3x3 dilated)))."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = DilatedConv2d(channels, dilation)
        self.conv2 = Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, dense: bool = False) -> Tensor:
        return x + self.conv2.relu(self.conv1(x, dense).relu())


class CBSNBranch(nn.Module):
    """A switchable convolution, then nine modules that keep its blind spot.

    With dilation d its kernel has 2d - 1 rows and columns. Everything after it moves in steps of d pixels, which never
    lead from another tap back to the centre.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.conv1 = SwitchableConv2d(channels, 2 * dilation - 1)
        self.conv2 = Conv2d(channels, channels, 1)
        self.conv3 = Conv2d(channels, channels, 1)
        self.dilated = nn.Sequential(*(CBSNModule(channels, dilation) for _ in range(9)))
        self.conv4 = Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, blind: bool) -> Tensor:
        x = self.conv1(x, blind).relu()
        x = self.conv3.relu(self.conv2.relu(x))
        return self.conv4.relu(through_dilated(self.dilated, x, self.dilation))


@ARCHS.register
class CBSN(Network):
    """Conditional blind-spot network: the same weights blind (f_M) or full (f).

    ``net(x, blind)``: ``x`` (B, 3, H, W), RGB, standardised (see ``standardise``), any size -> the same shape and
    range. If it is blind, an output pixel does not see the input pixel at its own place; if it is full, it does.
    ``denoise`` takes and returns [0, 255].

    Args:
        width: channels; 128 has 3,656,131 parameters.
    """

    tile_overlap = 76  # leaves a context of 30 pixels, which is the receptive radius of 29, rounded up

    def __init__(self, width: PositiveInt = 128) -> None:
        super().__init__()
        self.conv0 = Conv2d(3, width, 1)
        self.branch1 = CBSNBranch(width, dilation=2)
        self.branch2 = CBSNBranch(width, dilation=3)
        self.conv1 = Conv2d(2 * width, width, 1)
        self.conv2 = Conv2d(width, 64, 1)
        self.conv3 = Conv2d(64, 64, 1)
        self.conv4 = Conv2d(64, 3, 1)
        _he_init(self)

    def forward(self, x: Tensor, blind: bool) -> Tensor:
        return self.body(self.head(x), blind)

    def head(self, x: Tensor) -> Tensor:
        """Compute the first layer, (B, 3, H, W) -> (B, w, H, W). It is 1x1, so it commutes with sub-sampling."""
        return self.conv0.relu(x)

    def body(self, features: Tensor, blind: bool) -> Tensor:
        """Compute everything after ``head``, (B, w, H, W) -> (B, 3, H, W)."""
        x = torch.cat((self.branch1(features, blind), self.branch2(features, blind)), dim=1)
        x = self.conv2.relu(self.conv1.relu(x))
        return in_full_precision(self.conv4, self.conv4.weight, self.conv3.relu(x))

    def denoise(self, noisy: Tensor, tiled: Tiled = untiled) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], any size, by a full pass; the same shape, not clipped.

        The picture is standardised by the statistics of the whole picture, also if the network runs tile by tile.
        """
        x, mean, scale = standardise(noisy)
        full = partial(self, blind=False)
        return surrounded(lambda whole: tiled(full, whole), x, PADDING) * scale + mean

    @classmethod
    def example(cls) -> dict[str, Any]:
        return {"width": 4}

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        if "conv0.weight" not in shapes or "branch1.dilated.0.conv1.weight" not in shapes:
            return None
        return {"width": shapes["conv0.weight"][0]}


def standardise(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Standardise each channel of each picture of ``y`` (B, 3, H, W), [0, 255], by its own statistics.

    x = (y - mean) / scale with scale = max(std, 255 / sqrt(HW)). This least scale, which is white / P in a P x P patch,
    makes constant pictures zero.

    Returns:
        x, mean and scale; y = x * scale + mean.
    """
    variance, mean = torch.var_mean(y, dim=(2, 3), correction=0, keepdim=True)
    # The variance is clamped, not its root, since the root of a variance of zero has no finite gradient.
    scale = variance.clamp(min=255.0**2 / prod(y.shape[2:])).sqrt()
    return (y - mean) / scale, mean, scale


def _he_init(module: nn.Module) -> None:
    """Draw every kernel from He's normal distribution (variance 2 / fan-in); biases are 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
