"""The U-Net of AT-BSN (arXiv 2303.16783): as a half-plane network in the teacher, plain in student C.

The layout is Laine et al.'s (arXiv 1901.10277): skips are the pooled encoder features, the last one is the input.
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
"""Negative slope of every LeakyReLU."""


def channel_multiple(device: torch.device) -> int:
    """The number that channels of a picture are padded to a multiple of, with zeros: 8 on a GPU.

    Tensor cores want rows of 16 bytes, 8 channels in 16 bits. With 3 channels the first convolution and, at full
    resolution, the widest one (of 2w and the picture, 99 channels at width 48) would have none.
    """
    return 8 if ways.like_a_gpu(device) else 1


def pools_below_zeros(device: torch.device) -> bool:
    """Whether ``half_plane_pool`` is done by pooling below a row of zeros, whose last, odd row is left out.

    Below more of them, for the margin, which pools to zeros. One kernel. On a CPU a convolution that writes in place is
    faster.
    """
    return ways.like_a_gpu(device)


class ConvLReLU(nn.Module):
    """3x3 convolution, then LeakyReLU 0.1.

    With ``half_plane`` an output row sees only input rows up to its own. For that the input must have two rows of zeros
    on top, and the convolution pads no rows itself. These zeros are not added before the convolution, which would copy
    the picture: the layer before writes its output below them. That is what ``margin`` asks for: how many rows of
    zeros the output shall have on top, for the next layer. (Padding by two rows on both sides and cutting two output
    rows off would give the same, but oneDNN has no fast backward pass for it.)

    Args:
        full_precision: compute outside of autocast, for a layer whose output is the picture.
    """

    def __init__(self, in_channels: int, out_channels: int, half_plane: bool, full_precision: bool = False) -> None:
        super().__init__()
        self.half_plane, self.full_precision = half_plane, full_precision
        self.conv = Conv2d(in_channels, out_channels, 3, padding=(0, 1) if half_plane else 1)

    def forward(self, x: Tensor, margin: int = 0) -> Tensor:
        """Convolve ``x``, which may have more channels, of zeros, than the convolution has."""
        x = in_full_precision(self._picture, self.conv.weight, x) if self.full_precision else self.conv(x)
        return leaky_relu_below(x, SLOPE, margin)

    def _picture(self, x: Tensor) -> Tensor:
        """The convolution, with outputs that nobody wants where it has fewer than tensor cores do in 32 bits."""
        channels, bias = self.conv.out_channels, self.conv.bias
        more = -channels % channel_multiple(x.device)
        if not more or bias is None or torch.is_grad_enabled():
            return self.conv(x)
        weight = F.pad(self.conv.weight, (0, 0, 0, 0, 0, 0, 0, more))
        return F.conv2d(x, weight, F.pad(bias, (0, more)), padding=self.conv.padding)[:, :channels]

    def upsampled(self, x: Tensor, skip: Tensor, margin: int = 0) -> Tensor:
        """``forward`` of the concatenation of ``x``, up-sampled x2, and ``skip``: the sum of two convolutions."""
        ahead, beside = self.conv.weight.split((x.shape[1], skip.shape[1]), dim=1)
        padding = (2, 1) if self.half_plane else 1
        x = F.conv_transpose2d(x, upsampling_kernel(ahead), stride=2, padding=padding)
        x = x.add_(F.conv2d(skip, beside, self.conv.bias, padding=self.conv.padding))
        return leaky_relu_below(x, SLOPE, margin)


class Encoder(nn.Module):
    """Convolution and, but for the deepest, 2x2 max-pooling."""

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
        last: whether this is the last one, whose skip is the picture. Having few channels, that lets the first
            convolution do the up-sampling on the CPU (``ConvLReLU.upsampled``), where it pays.
    """

    def __init__(
        self, in_channels: int, channels: int, out_channels: int, half_plane: bool, last: bool = False
    ) -> None:
        super().__init__()
        self.half_plane, self.last = half_plane, last
        self.conv1 = ConvLReLU(in_channels, channels, half_plane)
        self.conv2 = ConvLReLU(channels, out_channels, half_plane, full_precision=last and not half_plane)

    def forward(self, x: Tensor, skip: Tensor, margin: int = 0) -> Tensor:
        """``skip`` has a margin of two rows in a half-plane network, and ``x``, once up-sampled, too."""
        between = 2 if self.half_plane else 0
        if self.last and not ways.like_a_gpu(x.device):
            return self.conv2(self.conv1.upsampled(x, skip, between), margin)
        return self.conv2(self.conv1(upsampled_beside(x, skip), between), margin)


class UNetBody(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, H, W); H and W multiples of 32 (five poolings).

    Args:
        width: channels w of the encoder; the decoder has 2w.
        out_channels: channels of the result (which keeps its LeakyReLU).
        half_plane: whether output row i sees only input rows <= i.
        in_channels: of the picture.
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
        """The features below ``margin`` zero rows: (B, out_channels, margin + H, W)."""
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
    """Kaiming normal (fan-in, a = 0.1) for every convolution, zero bias."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=SLOPE, nonlinearity="leaky_relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
