"""The UNet of AT-BSN (arXiv 2303.16783): as a half-plane network in the teacher, plain in student C.

The layout is Laine et al.'s (arXiv 1901.10277): skips are the pooled encoder features, the last one is the input.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atbsn.ops.blind_spot import half_plane_pool

SLOPE = 0.1
"""Negative slope of every LeakyReLU."""


class ConvLReLU(nn.Module):
    """3x3 convolution with zero padding, then LeakyReLU 0.1.

    With ``half_plane`` an output row sees only input rows up to its own: two zero rows on top, none at the bottom.
    """

    def __init__(self, in_channels: int, out_channels: int, half_plane: bool) -> None:
        super().__init__()
        self.half_plane = half_plane
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=(0, 1) if half_plane else 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(self._pad(x)), SLOPE, inplace=True)

    def upsampled(self, x: Tensor, skip: Tensor) -> Tensor:
        """``forward`` of (``x`` up-sampled x2 by nearest neighbours, ``skip``), neither up-sampled nor concatenated.

        A convolution of a concatenation is the sum of two. That of an up-sampled picture sees every pixel twice,
        so its taps can be added up beforehand: a transposed convolution with 4 instead of 9 multiplications a pixel.
        """
        ahead, beside = self.conv.weight.split((x.shape[1], skip.shape[1]), dim=1)
        kernel = 4 * F.avg_pool2d(ahead, 2, stride=1, padding=1).flip((2, 3)).transpose(0, 1)
        if self.half_plane:
            x = F.conv_transpose2d(F.pad(x, (0, 0, 1, 0)), kernel, stride=2, padding=(2, 1))
        else:
            x = F.conv_transpose2d(x, kernel, stride=2, padding=1)
        x = x + F.conv2d(self._pad(skip), beside, self.conv.bias, padding=self.conv.padding)
        return F.leaky_relu(x, SLOPE, inplace=True)

    def _pad(self, x: Tensor) -> Tensor:
        # Not padding=(2, 1) and two rows off the result: oneDNN has no fast backward pass for that padding.
        return F.pad(x, (0, 0, 2, 0)) if self.half_plane else x


class Encoder(nn.Module):
    """Convolution and, but for the deepest, 2x2 max-pooling."""

    def __init__(self, channels: int, half_plane: bool, pool: bool = True) -> None:
        super().__init__()
        self.half_plane, self.pool = half_plane, pool
        self.conv1 = ConvLReLU(channels, channels, half_plane)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        if not self.pool:
            return x
        return half_plane_pool(x) if self.half_plane else F.max_pool2d(x, 2)


class Decoder(nn.Module):
    """Nearest-neighbour x2, concatenation (decoder, skip), two convolutions.

    Args:
        fold: on the CPU, let the first convolution do the up-sampling (``ConvLReLU.upsampled``). It pays where the
            skip has few channels.
    """

    def __init__(
        self, in_channels: int, channels: int, out_channels: int, half_plane: bool, fold: bool = False
    ) -> None:
        super().__init__()
        self.fold = fold
        self.conv1 = ConvLReLU(in_channels, channels, half_plane)
        self.conv2 = ConvLReLU(channels, out_channels, half_plane)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        if self.fold and x.device.type == "cpu":
            return self.conv2(self.conv1.upsampled(x, skip))
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.conv2(self.conv1(torch.cat((x, skip), dim=1)))


class UNet(nn.Module):
    """(B, 3, H, W) -> (B, out_channels, H, W); H and W multiples of 32 (five poolings).

    Args:
        width: channels w of the encoder; the decoder has 2w.
        out_channels: channels of the result (which keeps its LeakyReLU).
        half_plane: whether output row i sees only input rows <= i.
    """

    def __init__(self, width: int, out_channels: int, half_plane: bool) -> None:
        super().__init__()
        self.intro = ConvLReLU(3, width, half_plane)
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
        self.dec1 = Decoder(2 * width + 3, 2 * width, out_channels, half_plane, fold=True)

    def forward(self, image: Tensor) -> Tensor:
        pool1 = self.enc1(self.intro(image))
        pool2 = self.enc2(pool1)
        pool3 = self.enc3(pool2)
        pool4 = self.enc4(pool3)
        x = self.enc6(self.enc5(pool4))
        for decoder, skip in (
            (self.dec5, pool4),
            (self.dec4, pool3),
            (self.dec3, pool2),
            (self.dec2, pool1),
            (self.dec1, image),
        ):
            x = decoder(x, skip)
        return x


@torch.no_grad()
def kaiming_init(module: nn.Module) -> None:
    """Kaiming normal (fan-in, a = 0.1) for every convolution, zero bias."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=SLOPE, nonlinearity="leaky_relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
