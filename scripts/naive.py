"""The networks and losses of this project written plainly: the baseline that speed is measured against.

They follow the papers (arXiv 2303.16783, 2304.09507) operation by operation: a half-plane convolution pads a row,
convolves and crops; the four rotations run on a picture that is padded to a square; every blind spot is a pass of its
own; C-BSN runs three passes. They compute in float32, NCHW, eager. Their state dicts are those of ``atbsn.archs``.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KS = (0, 1, 3, 5, 7, 9, 11)
"""The published family of blind spots."""


class Conv(nn.Module):
    """3x3 convolution and LeakyReLU. If half-plane, a row of zeros is added on top and the last output row dropped."""

    def __init__(self, in_channels: int, out_channels: int, half_plane: bool) -> None:
        super().__init__()
        self.half_plane = half_plane
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.pad(x, (0, 0, 1, 0)))[:, :, :-1] if self.half_plane else self.conv(x)
        return F.leaky_relu(x, 0.1)


class Encoder(nn.Module):
    def __init__(self, channels: int, half_plane: bool, pool: bool) -> None:
        super().__init__()
        self.half_plane, self.pool = half_plane, pool
        self.conv1 = Conv(channels, channels, half_plane)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        if self.pool and self.half_plane:
            x = F.pad(x, (0, 0, 1, 0))[:, :, :-1]
        return F.max_pool2d(x, 2) if self.pool else x


class Decoder(nn.Module):
    def __init__(self, in_channels: int, channels: int, out_channels: int, half_plane: bool) -> None:
        super().__init__()
        self.conv1 = Conv(in_channels, channels, half_plane)
        self.conv2 = Conv(channels, out_channels, half_plane)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.conv2(self.conv1(torch.cat([x, skip], dim=1)))


class UNet(nn.Module):
    def __init__(self, width: int, out_channels: int, half_plane: bool) -> None:
        super().__init__()
        self.intro = Conv(3, width, half_plane)
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
    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.unet = UNet(width, 2 * width, half_plane=True)
        self.nin_A = nn.Conv2d(8 * width, 8 * width, 1)
        self.nin_B = nn.Conv2d(8 * width, 2 * width, 1)
        self.nin_C = nn.Conv2d(2 * width, 3, 1)

    def forward(self, x: Tensor, k: int = 3) -> Tensor:
        height, width = x.shape[-2:]
        side = -(-max(height, width) // 32) * 32
        x = F.pad(x, (0, side - width, 0, side - height), mode="reflect")
        features = self.unet(torch.cat([torch.rot90(x, -turns, (2, 3)) for turns in range(4)]))
        features = F.pad(features, (0, 0, (k + 1) // 2, 0))[:, :, :side]
        parts = [torch.rot90(part, turns, (2, 3)) for turns, part in enumerate(features.chunk(4))]
        x = F.leaky_relu(self.nin_A(torch.cat(parts, dim=1)), 0.1)
        x = self.nin_C(F.leaky_relu(self.nin_B(x), 0.1))
        return x[:, :, :height, :width]

    def forward_teachers(self, x: Tensor, ks: Sequence[int] = KS) -> Tensor:
        return torch.stack([self(x, k) for k in ks])


class StudentC(nn.Module):
    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.unet = UNet(width, 3, half_plane=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % 32, 0, -height % 32), mode="reflect")
        return self.unet(x)[:, :, :height, :width]


class Stage(nn.Module):
    """Convolutions without bias, with replicate padding, each followed by a LeakyReLU."""

    def __init__(self, *channels: int) -> None:
        super().__init__()
        for number in range(1, len(channels)):
            block = nn.Module()
            block.conv = nn.Conv2d(
                channels[number - 1], channels[number], 3, padding=1, padding_mode="replicate", bias=False
            )
            self.add_module("conv" if len(channels) == 2 else f"conv{number}", block)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.children():
            x = F.leaky_relu(block.conv(x), 0.1)
        return x


class StudentA(nn.Module):
    stages: ClassVar = {"enc1": (3, 48), "enc2": (48, 48), "enc3": (48, 48), "dec2": (96, 96), "dec1": (99, 3)}

    def __init__(self) -> None:
        super().__init__()
        for name, channels in self.stages.items():
            self.add_module(name, Stage(*channels))

    def forward(self, x: Tensor) -> Tensor:
        pool1 = F.max_pool2d(self.enc1(x), 2)
        y = self.enc3(F.max_pool2d(self.enc2(pool1), 2))
        y = self.dec2(torch.cat([_upsample(y, pool1), pool1], dim=1))
        return self.dec1(torch.cat([_upsample(y, x), x], dim=1))


class StudentB(StudentA):
    stages: ClassVar = {
        "enc1": (3, 48, 48, 48),
        "enc2": (48, 48, 48, 48),
        "enc3": (48, 96, 96, 48),
        "dec2": (96, 96, 96, 96, 96),
        "dec1": (99, 96, 96, 96, 3),
    }


class MaskedConv(nn.Conv2d):
    def forward(self, x: Tensor, blind: bool) -> Tensor:
        mask = torch.ones_like(self.weight)
        if blind:
            mask[:, :, self.kernel_size[0] // 2, self.kernel_size[1] // 2] = 0
        return F.conv2d(x, self.weight * mask, self.bias, padding=self.padding)


class Branch(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = MaskedConv(width, width, 2 * dilation - 1, padding=dilation - 1)
        self.conv2 = nn.Conv2d(width, width, 1)
        self.conv3 = nn.Conv2d(width, width, 1)
        self.dilated = nn.ModuleList()
        for _ in range(9):
            module = nn.Module()
            module.conv1 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
            module.conv2 = nn.Conv2d(width, width, 1)
            self.dilated.append(module)
        self.conv4 = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, blind: bool) -> Tensor:
        x = F.relu(self.conv1(x, blind))
        x = F.relu(self.conv3(F.relu(self.conv2(x))))
        for module in self.dilated:
            x = x + F.relu(module.conv2(F.relu(module.conv1(x))))
        return F.relu(self.conv4(x))


class CBSN(nn.Module):
    """C-BSN on standardised patches; ``denoise`` takes and returns [0, 255]."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, width, 1)
        self.branch1, self.branch2 = Branch(width, 2), Branch(width, 3)
        self.conv1 = nn.Conv2d(2 * width, width, 1)
        self.conv2 = nn.Conv2d(width, 64, 1)
        self.conv3 = nn.Conv2d(64, 64, 1)
        self.conv4 = nn.Conv2d(64, 3, 1)

    def forward(self, x: Tensor, blind: bool) -> Tensor:
        x = F.relu(self.conv0(x))
        x = torch.cat([self.branch1(x, blind), self.branch2(x, blind)], dim=1)
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu(conv(x))
        return self.conv4(x)

    def denoise(self, noisy: Tensor) -> Tensor:
        height, width = noisy.shape[-2:]
        x, mean, scale = _standardise(noisy)
        x = self(F.pad(x, (32, 32, 32, 32), mode="reflect"), blind=False)
        return x[:, :, 32 : 32 + height, 32 : 32 + width] * scale + mean


def bsn_loss(net: ATBSN, noisy: Tensor) -> Tensor:
    return (net(noisy, k=9) - noisy).abs().mean()


def distill_loss(student: nn.Module, teacher: ATBSN, noisy: Tensor) -> Tensor:
    with torch.no_grad():
        targets = teacher.forward_teachers(noisy)
    output = student(noisy)
    return sum((output - target).abs().mean() for target in targets)


def cbsn_loss(net: CBSN, noisy: Tensor) -> Tensor:
    """C-BSN's loss with the full weight w of the terms that are ramped up."""
    x, _, _ = _standardise(noisy)
    phases = [x[:, :, row::5, column::5] for row in range(5) for column in range(5)]
    outputs = net(torch.cat(phases), blind=True).chunk(25)
    blind = torch.zeros_like(x)
    for number, output in enumerate(outputs):
        blind[:, :, number // 5 :: 5, number % 5 :: 5] = output
    full = net(x, blind=False)
    batch, _, height, width = x.shape
    picked = torch.randint(4, (batch, 1, height // 2, width // 2), device=x.device).expand(-1, 3, -1, -1)
    cells = [torch.stack([y[:, :, i // 2 :: 2, i % 2 :: 2] for i in range(4)]) for y in (x, full)]
    small_x, small_full = (cell.gather(0, picked[None])[0] for cell in cells)
    with torch.no_grad():
        target = net(small_x, blind=True)
    return (blind - x).abs().mean() + (full - x).abs().mean() + 2 * (small_full - target).abs().mean()


def _standardise(noisy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean = noisy.mean(dim=(2, 3), keepdim=True)
    std = noisy.std(dim=(2, 3), correction=0, keepdim=True)
    scale = std.clamp(min=255 / (noisy.shape[2] * noisy.shape[3]) ** 0.5)
    return (noisy - mean) / scale, mean, scale


def _upsample(x: Tensor, skip: Tensor) -> Tensor:
    x = F.interpolate(x, scale_factor=2, mode="nearest")
    rows, columns = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
    return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
