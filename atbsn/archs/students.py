"""Lightweight ordinary networks that AT-BSN's teachers are distilled into (arXiv 2303.16783, section 4).

They have no shifts, no rotations and no head, and need one pass over the picture.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atbsn.archs.base import Network, in_full_precision
from atbsn.archs.unet import SLOPE, UNetBody, kaiming_init
from atbsn.ops import ways
from atbsn.ops.padding import has_any_size, pad_to_multiple, reflect_pad
from atbsn.ops.upsampling import upsample_nearest, upsampling_kernel
from atbsn.registry import ARCHS
from atbsn.utils.types import PositiveFloat, PositiveInt

APRRD_SCALE = 255.0
"""``StudentC.scale`` of APR-RD's student, which computes on [0, 1]."""


class ReplicateConv(nn.Module):
    """3x3 convolution without bias, replicate padding, then LeakyReLU 0.1.

    Args:
        gives_picture: its output is the picture, so it is computed outside of autocast.
    """

    def __init__(self, in_channels: int, out_channels: int, gives_picture: bool) -> None:
        super().__init__()
        self.full_precision = gives_picture
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="replicate", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self._apply_conv(self.conv, x), SLOPE, inplace=True)

    def upsampled(self, x: Tensor, skip: Tensor) -> Tensor:
        """Compute ``forward`` of the concatenation of ``x``, up-sampled to twice its size, and ``skip``."""
        return F.leaky_relu(self._apply_conv(self._conv_upsampled, x, skip), SLOPE, inplace=True)

    def _conv_upsampled(self, x: Tensor, skip: Tensor) -> Tensor:
        ahead, beside = self.conv.weight.split((x.shape[1], skip.shape[1]), dim=1)
        around = (1, 1, 1, 1)
        x = F.conv_transpose2d(F.pad(x, around, mode="replicate"), upsampling_kernel(ahead), stride=2, padding=3)
        return x.add_(F.conv2d(F.pad(skip, around, mode="replicate"), beside))

    def _apply_conv(self, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        return in_full_precision(function, self.conv.weight, *inputs) if self.full_precision else function(*inputs)


class Stage(nn.Module):
    """A chain of convolutions, named ``conv`` if there is one and ``conv1, conv2, ...`` if there are several.

    Args:
        channels: numbers of channels before, between and after the convolutions.
        gives_picture: the output of the last convolution is the picture.
    """

    def __init__(self, *channels: int, gives_picture: bool = False) -> None:
        super().__init__()
        pairs = list(pairwise(channels))
        for number, (before, after) in enumerate(pairs, start=1):
            conv = ReplicateConv(before, after, gives_picture and number == len(pairs))
            self.add_module("conv" if len(pairs) == 1 else f"conv{number}", conv)

    def convolutions(self) -> list[ReplicateConv]:
        return [child for child in self.children() if isinstance(child, ReplicateConv)]

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """With ``skip``, the input is the concatenation of ``x``, up-sampled x2 to the size of ``skip``, and of
        ``skip``."""
        first, *others = self.convolutions()
        if skip is None:
            x = first(x)
        elif _can_fold(x, skip):
            x = first.upsampled(x, skip)
        else:
            x = upsample_to(x, skip)
            x = first(torch.cat((x, skip.to(x.dtype)), dim=1))
        for conv in others:
            x = conv(x)
        return x


def upsample_to(x: Tensor, skip: Tensor) -> Tensor:
    """Up-sample x2 by nearest neighbours, and pad with zeros on both sides if ``skip`` is larger."""
    x = upsample_nearest(x)
    rows, columns = skip.shape[-2] - x.shape[-2], skip.shape[-1] - x.shape[-1]
    if has_any_size(skip) or rows or columns:
        x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
    return x


def _can_fold(x: Tensor, skip: Tensor) -> bool:
    """Whether ``ReplicateConv.upsampled`` is exact for this up-sampling, and faster."""
    exact = not has_any_size(skip) and skip.shape[-2:] == (2 * x.shape[-2], 2 * x.shape[-1])
    return exact and not ways.like_a_gpu(x.device)


class LightStudent(Network):
    """The skeleton of students A and B: three encoder stages, two poolings, two decoder stages.

    ``net(noisy)``: (B, 3, H, W), RGB, float in [0, 255], any size -> the same shape, not clipped. A side of less than 4
    pixels, of which two poolings would leave nothing, is padded to 4 by reflection.
    """

    size_multiple = 4

    def __init__(self, channels: int, enc1: Stage, enc2: Stage, enc3: Stage, dec2: Stage, dec1: Stage) -> None:
        super().__init__()
        self.channels = channels
        self.enc1, self.enc2, self.enc3 = enc1, enc2, enc3
        self.dec2, self.dec1 = dec2, dec1
        kaiming_init(self)

    def forward(self, noisy: Tensor) -> Tensor:
        height, width = noisy.shape[-2:]
        image = reflect_pad(noisy, 0, max(0, 4 - width), 0, max(0, 4 - height))
        pool1 = F.max_pool2d(self.enc1(image), 2)
        x = self.enc3(F.max_pool2d(self.enc2(pool1), 2))
        return self.dec1(self.dec2(x, pool1), image)[..., :height, :width]


@ARCHS.register
class StudentA(LightStudent):
    """Student A, 128,385 parameters: one bias-free convolution in each stage. See ``LightStudent``.

    Args:
        channels: number of channels of the pictures.
    """

    def __init__(self, channels: PositiveInt = 3) -> None:
        super().__init__(
            channels,
            enc1=Stage(channels, 48),
            enc2=Stage(48, 48),
            enc3=Stage(48, 48),
            dec2=Stage(96, 96),
            dec1=Stage(96 + channels, channels, gives_picture=True),
        )

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        first = shapes.get("enc1.conv.conv.weight")
        return None if first is None else {"channels": first[1]}


@ARCHS.register
class StudentB(LightStudent):
    """Student B, 856,656 parameters: three bias-free convolutions in each encoder stage, four in each decoder stage.

    See ``LightStudent``.

    Args:
        channels: number of channels of the pictures.
    """

    def __init__(self, channels: PositiveInt = 3) -> None:
        super().__init__(
            channels,
            enc1=Stage(channels, 48, 48, 48),
            enc2=Stage(48, 48, 48, 48),
            enc3=Stage(48, 96, 96, 48),
            dec2=Stage(96, 96, 96, 96, 96),
            dec1=Stage(96 + channels, 96, 96, 96, channels, gives_picture=True),
        )

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        return {"channels": shapes["enc1.conv1.conv.weight"][1]} if "enc1.conv3.conv.weight" in shapes else None


@ARCHS.register
class StudentC(Network):
    """Student C, 1,003,011 parameters at width 48: the teacher's U-Net without shifts.

    ``net(noisy)``: (B, 3, H, W), RGB, float in [0, 255], any size (padded to a multiple of 32 by reflection) ->
    the same shape, not clipped.

    Args:
        width: channels w of the U-Net.
        mean: grey value that is subtracted from the input, as in a teacher with this ``mean``. It is not added to the
            output. Instead the last bias starts with it, because the LeakyReLU after it would flatten everything that
            is darker. 0 is the published network.
        channels: number of channels of the pictures.
        scale: what a picture is divided by inside the network. 1 is AT-BSN's student. 255 is APR-RD's, of 1.00 million
            parameters, which computes on [0, 1]. Both have the same names and shapes and differ only in the scale of
            their biases.
    """

    size_multiple = 32

    def __init__(
        self, width: PositiveInt = 48, mean: float = 0.0, channels: PositiveInt = 3, scale: PositiveFloat = 1.0
    ) -> None:
        super().__init__()
        self.mean, self.channels, self.scale = mean, channels, scale
        self.unet = UNetBody(width, out_channels=channels, half_plane=False, in_channels=channels)
        kaiming_init(self)
        bias = self.unet.dec1.conv2.conv.bias
        assert bias is not None, "the U-Net's convolutions have one"
        nn.init.constant_(bias, mean / scale)

    def forward(self, noisy: Tensor) -> Tensor:
        height, width = noisy.shape[-2:]
        image = noisy - self.mean if self.mean else noisy
        image = pad_to_multiple(image if self.scale == 1 else image / self.scale, self.size_multiple)
        clean = self.unet(image)[..., :height, :width]
        return clean if self.scale == 1 else clean * self.scale

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        if "unet.intro.conv.weight" not in shapes or "nin_A.weight" in shapes:
            return None
        width, channels, *_ = shapes["unet.intro.conv.weight"]
        return {"width": width, "channels": channels}

    @classmethod
    def lookalikes(cls, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        other = APRRD_SCALE if arguments.get("scale", 1.0) == 1 else 1.0
        return [{"type": cls.__name__, **arguments, "scale": other}]
