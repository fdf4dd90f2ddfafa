"""The networks and steps of this project written plainly: what ``benchmark.py`` measures against.

Straight from the papers (arXiv 2303.16783, 2304.09507), one operation after the other: a half-plane convolution
pads a row, convolves and crops; all four rotations run on a picture padded to a square; every blind spot is a
pass of its own; float32, NCHW, eager. The state dicts are those of ``atbsn.archs``, so that both give the same numbers.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class HalfPlaneConv(nn.Module):
    """One zero row on top, an ordinary 3x3 convolution, the last row off; LeakyReLU."""

    def __init__(self, in_channels: int, out_channels: int, half_plane: bool) -> None:
        super().__init__()
        self.half_plane = half_plane
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.act = nn.LeakyReLU(0.1)

    def forward(self, x: Tensor) -> Tensor:
        if self.half_plane:
            x = self.conv(F.pad(x, (0, 0, 1, 0)))[:, :, :-1]
        else:
            x = self.conv(x)
        return self.act(x)


class Encoder(nn.Module):
    def __init__(self, channels: int, half_plane: bool, pool: bool = True) -> None:
        super().__init__()
        self.half_plane, self.pool = half_plane, pool
        self.conv1 = HalfPlaneConv(channels, channels, half_plane)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        if not self.pool:
            return x
        if self.half_plane:
            x = F.pad(x, (0, 0, 1, 0))[:, :, :-1]
        return F.max_pool2d(x, 2)


class Decoder(nn.Module):
    def __init__(self, in_channels: int, channels: int, out_channels: int, half_plane: bool) -> None:
        super().__init__()
        self.conv1 = HalfPlaneConv(in_channels, channels, half_plane)
        self.conv2 = HalfPlaneConv(channels, out_channels, half_plane)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.conv2(self.conv1(torch.cat([x, skip], dim=1)))


class UNet(nn.Module):
    def __init__(self, width: int, out_channels: int, half_plane: bool) -> None:
        super().__init__()
        self.intro = HalfPlaneConv(3, width, half_plane)
        for number in range(1, 7):
            setattr(self, f"enc{number}", Encoder(width, half_plane, pool=number < 6))
        self.dec5 = Decoder(2 * width, 2 * width, 2 * width, half_plane)
        for number in (4, 3, 2):
            setattr(self, f"dec{number}", Decoder(3 * width, 2 * width, 2 * width, half_plane))
        self.dec1 = Decoder(2 * width + 3, 2 * width, out_channels, half_plane)

    def forward(self, image: Tensor) -> Tensor:
        pool1 = self.enc1(self.intro(image))
        pool2 = self.enc2(pool1)
        pool3 = self.enc3(pool2)
        pool4 = self.enc4(pool3)
        x = self.enc6(self.enc5(pool4))
        x = self.dec5(x, pool4)
        x = self.dec4(x, pool3)
        x = self.dec3(x, pool2)
        x = self.dec2(x, pool1)
        return self.dec1(x, image)


class ATBSN(nn.Module):
    """(B, 3, H, W) in [0, 255] to the same, with blind spot k."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.unet = UNet(width, 2 * width, half_plane=True)
        self.nin_A = nn.Conv2d(8 * width, 8 * width, 1)
        self.nin_B = nn.Conv2d(8 * width, 2 * width, 1)
        self.nin_C = nn.Conv2d(2 * width, 3, 1)
        self.act = nn.LeakyReLU(0.1)

    def forward(self, x: Tensor, k: int = 3) -> Tensor:
        height, width = x.shape[-2:]
        side = -(-max(height, width) // 32) * 32
        x = F.pad(x, (0, side - width, 0, side - height), mode="reflect")
        turned = torch.cat([torch.rot90(x, -turns, (2, 3)) for turns in range(4)])
        features = self.unet(turned)
        shift = (k + 1) // 2
        features = F.pad(features, (0, 0, shift, 0))[:, :, :side]
        parts = [torch.rot90(part, turns, (2, 3)) for turns, part in enumerate(features.chunk(4))]
        x = self.act(self.nin_A(torch.cat(parts, dim=1)))
        x = self.nin_C(self.act(self.nin_B(x)))
        return x[:, :, :height, :width]


class StudentC(nn.Module):
    """The UNet without shifts."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.unet = UNet(width, 3, half_plane=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % 32, 0, -height % 32), mode="reflect")
        return self.unet(x)[:, :, :height, :width]
