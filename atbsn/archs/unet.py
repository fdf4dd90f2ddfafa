"""The U-Net of AT-BSN (arXiv 2303.16783): a half-plane network in the teacher, a plain one in student C.

The layout is Laine et al.'s (arXiv 1901.10277): skips are the pooled encoder features, and the last one is the input.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atbsn.archs.base import in_full_precision
from atbsn.ops import ways
from atbsn.ops.blind_spot import half_plane_pool, leaky_relu_below
from atbsn.ops.convolution import Conv2d
from atbsn.ops.upsampling import upsampled_beside, upsampling_kernel

SLOPE = 0.1
"""Negative slope of every LeakyReLU, as published."""


def channel_multiple(device: torch.device) -> int:
    """The channels of a picture are padded with zeros to a multiple of this: 8 on a GPU, otherwise 1.

    Tensor cores need rows of 16 bytes, which are 8 channels of 16 bits. With 3 channels, they could not be used for the
    first convolution, nor for the widest one at full resolution (of 2w channels and the picture, 99 at width 48).
    """
    return 8 if ways.like_a_gpu(device) else 1


def pools_below_zeros(device: torch.device) -> bool:
    """Whether an encoder replaces ``half_plane_pool`` by ordinary pooling of features that lie below rows of zeros.

    One row of zeros does the shift, and two more for each row of the margin pool to zeros. The last row, which is left
    over, is dropped. That takes one kernel. On a CPU a convolution that writes in place is faster.
    """
    return ways.like_a_gpu(device)


class ConvLReLU(nn.Module):
    """3x3 convolution, then LeakyReLU 0.1.

    With ``half_plane`` an output row sees only input rows up to its own. For that the input must have two rows of zeros
    on top, and the convolution itself pads no rows. Adding these zeros before the convolution would copy the picture.
    Instead the layer before writes its output below them: ``margin`` is the number of rows of zeros on top of the
    output. (Padding by two rows on both sides and cutting two output rows off would give the same, but oneDNN has no
    fast backward pass for it.)

    Args:
        half_plane: whether an output row sees only input rows up to its own.
        full_precision: compute outside of autocast, for a layer whose output is the picture.
    """

    def __init__(self, in_channels: int, out_channels: int, half_plane: bool, full_precision: bool = False) -> None:
        super().__init__()
        self.half_plane, self.full_precision = half_plane, full_precision
        self.conv = Conv2d(in_channels, out_channels, 3, padding=(0, 1) if half_plane else 1)

    def forward(self, x: Tensor, margin: int = 0) -> Tensor:
        """Convolve ``x``, which may have further channels if these are zero."""
        x = in_full_precision(self._picture, self.conv.weight, x) if self.full_precision else self.conv(x)
        return leaky_relu_below(x, SLOPE, margin)

    def _picture(self, x: Tensor) -> Tensor:
        """Convolve with additional output channels, which are dropped, so that tensor cores can be used in 32 bits."""
        channels, bias = self.conv.out_channels, self.conv.bias
        more = -channels % channel_multiple(x.device)
        if not more or bias is None or torch.is_grad_enabled():
            return self.conv(x)
        weight = F.pad(self.conv.weight, (0, 0, 0, 0, 0, 0, 0, more))
        return F.conv2d(x, weight, F.pad(bias, (0, more)), padding=self.conv.padding)[:, :channels]

    def upsampled(self, x: Tensor, skip: Tensor, margin: int = 0) -> Tensor:
        """Compute ``forward`` of the concatenation of ``x``, up-sampled x2, and ``skip`` by the sum of convolutions."""
        ahead, beside = self.conv.weight.split((x.shape[1], skip.shape[1]), dim=1)
        padding = (2, 1) if self.half_plane else 1
        x = F.conv_transpose2d(x, upsampling_kernel(ahead), stride=2, padding=padding)
        x = x.add_(F.conv2d(skip, beside, self.conv.bias, padding=self.conv.padding))
        return leaky_relu_below(x, SLOPE, margin)


class Encoder(nn.Module):
    """Convolution and, if ``pool``, 2x2 max-pooling. The deepest encoder does not pool."""

    def __init__(self, channels: int, half_plane: bool, pool: bool = True) -> None:
        super().__init__()
        self.half_plane, self.pool = half_plane, pool
        self.conv1 = ConvLReLU(channels, channels, half_plane)

    def forward(self, x: Tensor, margin: int = 0) -> Tensor:
        if not self.pool:
            return self.conv1(x, margin)
        if not self.half_plane:
            return F.max_pool2d(self.conv1(x), 2)
        if pools_below_zeros(x.device):
            return F.max_pool2d(self.conv1(x, 1 + 2 * margin), 2)
        return half_plane_pool(self.conv1(x), margin)


class Decoder(nn.Module):
    """Nearest-neighbour x2, concatenation (decoder, skip), two convolutions.

    Args:
        last: whether this is the last decoder, whose skip is the picture. The picture has few channels, so on a CPU it
            is faster to fold the up-sampling into the first convolution (``ConvLReLU.upsampled``).
    """

    def __init__(
        self, in_channels: int, channels: int, out_channels: int, half_plane: bool, last: bool = False
    ) -> None:
        super().__init__()
        self.half_plane, self.last = half_plane, last
        self.conv1 = ConvLReLU(in_channels, channels, half_plane)
        self.conv2 = ConvLReLU(channels, out_channels, half_plane, full_precision=last and not half_plane)

    def forward(self, x: Tensor, skip: Tensor, margin: int = 0) -> Tensor:
        """In a half-plane network, ``skip`` and the up-sampled ``x`` have a margin of two rows of zeros."""
        between = 2 if self.half_plane else 0
        if self.last and not ways.like_a_gpu(x.device):
            return self.conv2(self.conv1.upsampled(x, skip, between), margin)
        return self.conv2(self.conv1(upsampled_beside(x, skip), between), margin)


class UNetBody(nn.Module):
    """U-Net with five poolings: (B, in_channels, H, W) -> (B, out_channels, H, W), H and W multiples of 32.

    Args:
        width: channels w of the encoder; the decoder has 2w.
        out_channels: channels of the result, which has passed a LeakyReLU.
        half_plane: whether output row i sees only input rows <= i.
        in_channels: channels of the picture.
    """

    def __init__(self, width: int, out_channels: int, half_plane: bool, in_channels: int = 3) -> None:
        super().__init__()
        self.half_plane = half_plane
        self.intro = ConvLReLU(in_channels, width, half_plane)
        self.enc1 = Encoder(width, half_plane)
        self.enc2 = Encoder(width, half_plane)
        self.enc3 = Encoder(width, half_plane)
        self.enc4 = Encoder(width, half_plane)
        self.enc5 = Encoder(width, half_plane)
        self.enc6 = Encoder(width, half_plane, pool=False)
        self.dec5 = Decoder(2 * width, 2 * width, 2 * width, half_plane)
        self.dec4 = Decoder(3 * width, 2 * width, 2 * width, half_plane)
        self.dec3 = Decoder(3 * width, 2 * width, 2 * width, half_plane)
        self.dec2 = Decoder(3 * width, 2 * width, 2 * width, half_plane)
        self.dec1 = Decoder(2 * width + in_channels, 2 * width, out_channels, half_plane, last=True)

    def forward(self, image: Tensor, margin: int = 0) -> Tensor:
        """Compute the features, below ``margin`` rows of zeros: (B, out_channels, margin + H, W)."""
        one, two = (1, 2) if self.half_plane else (0, 0)
        more = -image.shape[1] % channel_multiple(image.device)
        if two or more:
            image = F.pad(image, (0, 0, two, 0, 0, more))
        pool1 = self.enc1(self.intro(image, two), two)
        pool2 = self.enc2(pool1, two)
        pool3 = self.enc3(pool2, two)
        pool4 = self.enc4(pool3, two)
        x = self.enc6(self.enc5(pool4, two), one)
        for decoder, skip in ((self.dec5, pool4), (self.dec4, pool3), (self.dec3, pool2), (self.dec2, pool1)):
            x = decoder(x, skip, one)
        return self.dec1(x, image, margin)


@torch.no_grad()
def kaiming_init(module: nn.Module) -> None:
    """Draw the kernels of all convolutions from Kaiming's normal distribution (fan-in, a = 0.1); biases are 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=SLOPE, nonlinearity="leaky_relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
