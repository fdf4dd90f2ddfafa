"""DBSNl, the dilated blind-spot network of AP-BSN (Lee et al., CVPR 2022, arXiv 2203.11799), which others build on."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from atbsn.archs.base import in_full_precision
from atbsn.ops.dilation import DilatedConv2d, through_dilated

RADIUS = 29
"""Pixels: receptive radius of DBSNl with its published nine modules, 2 + 9 * 3."""

Activation = Callable[[], nn.Module]
"""Makes an activation."""
RELU = partial(nn.ReLU, inplace=True)
"""The published activation."""
NumModules = Annotated[int, Ge(1), Le(100)]
"""Number of dilated modules of a branch."""


class CentreMaskedConv2d(nn.Conv2d):
    """'Same' convolution without the centre tap of its kernel.

    The weight is multiplied by a mask, so the centre tap does nothing and its gradient is zero.
    """

    mask: Tensor

    def __init__(self, channels: int, kernel_size: int, out_channels: int | None = None, bias: bool = True) -> None:
        super().__init__(channels, out_channels or channels, kernel_size, padding=kernel_size // 2, bias=bias)
        mask = torch.ones(1, 1, kernel_size, kernel_size)
        mask[..., kernel_size // 2, kernel_size // 2] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * self.mask, self.bias)


class DBSNModule(nn.Module):
    """h + 1x1(ReLU(3x3 dilated)), with no activation after the sum."""

    def __init__(self, width: int, dilation: int, activation: Activation) -> None:
        super().__init__()
        self.body = nn.Sequential(DilatedConv2d(width, dilation), activation(), nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor, dense: bool = False) -> Tensor:
        dilated, activation, pointwise = self.body
        return pointwise(activation(dilated(x, dense))).add_(x)


class DBSNBranch(nn.Module):
    """A masked convolution of 2d - 1 rows and columns, then modules that move in steps of d = ``dilation`` pixels.

    Such steps never lead from another tap back to the centre. So an output does not depend on inputs at offsets
    (dy, dx) where both dy and dx are multiples of d.
    """

    def __init__(self, width: int, dilation: int, num_modules: int, activation: Activation) -> None:
        super().__init__()
        self.dilation, self.num_modules = dilation, num_modules
        self.body = nn.Sequential(
            CentreMaskedConv2d(width, 2 * dilation - 1), activation(),
            nn.Conv2d(width, width, 1), activation(),
            nn.Conv2d(width, width, 1), activation(),
            *(DBSNModule(width, dilation, activation) for _ in range(num_modules)),
            nn.Conv2d(width, width, 1), activation(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self.body)
        before, after = 6, 6 + self.num_modules
        for layer in layers[:before]:
            x = layer(x)
        x = through_dilated(layers[before:after], x, self.dilation)
        for layer in layers[after:]:
            x = layer(x)
        return x


class DBSNl(nn.Module):
    """Blind-spot network of dilated convolutions: (B, C, H, W), any scale and size -> the same shape.

    It is a 1x1 convolution, two masked branches with dilation 2 and 3, and a tail of 1x1 convolutions. An output does
    not depend on inputs at offsets (dy, dx) where both dy and dx are multiples of 6, so not on its own pixel. It sees
    all others up to radius 29. Padding is zero, the initialisation is PyTorch's, and the names of the weights are the
    authors'.

    Args:
        width: channels w.
        num_modules: dilated modules of each branch.
        activation: makes the activation after every convolution.
        tail: maps the 2w channels of both branches to the output. Its last layer is a convolution, which is computed
            outside of autocast. By default 2w -> w -> w/2 -> w/2 -> C.
        channels: C, number of channels of the picture.
    """

    def __init__(
        self,
        width: int,
        num_modules: int = 9,
        activation: Activation = RELU,
        tail: nn.Sequential | None = None,
        channels: int = 3,
    ) -> None:
        super().__init__()
        half = max(1, width // 2)
        self.head = nn.Sequential(nn.Conv2d(channels, width, 1), activation())
        self.branch1 = DBSNBranch(width, 2, num_modules, activation)
        self.branch2 = DBSNBranch(width, 3, num_modules, activation)
        self.tail = tail or nn.Sequential(
            nn.Conv2d(2 * width, width, 1), activation(),
            nn.Conv2d(width, half, 1), activation(),
            nn.Conv2d(half, half, 1), activation(),
            nn.Conv2d(half, channels, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        features = self.head(x)
        features = torch.cat((self.branch1(features), self.branch2(features)), dim=1)
        *layers, last = self.tail
        assert isinstance(last, nn.Conv2d)
        for layer in layers:
            features = layer(features)
        return in_full_precision(last, last.weight, features)


def dbsnl_arguments(shapes: dict[str, tuple[int, ...]], prefix: str = "") -> dict[str, object] | None:
    """Find the arguments of a ``DBSNl`` with the published tail from the shapes of its state dict; None if it is none.

    Args:
        prefix: what all names begin with.
    """
    head, tail = shapes.get(f"{prefix}head.0.weight"), shapes.get(f"{prefix}tail.6.weight")
    masked = shapes.get(f"{prefix}branch1.body.0.weight")
    if head is None or tail is None or masked is None:
        return None
    number = 0
    while f"{prefix}branch1.body.{6 + number}.body.0.weight" in shapes:
        number += 1
    return {"width": head[0], "num_modules": number, "channels": head[1]}
