"""TM-BSN and LG-BPN written plainly: the baseline that their speed is measured against.

They follow the papers. TM-BSN (CVPR 2026): masks are written over the weights, a square picture runs in four rotations,
both shifts are concatenated, and every hole is a pass of its own. LG-BPN (arXiv 2304.00534): while denoising, every tap
of a masked kernel is sampled by itself, between pixels, and the phases of PD run one after the other. They compute in
float32, NCHW, eager. Their state dicts are those of ``atbsn.archs``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atbsn.archs.lgbpn import LGBPN

KS = (2, 3, 4, 5, 6)
"""The published family of holes."""


class Conv(nn.Conv2d):
    mask: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)
        self.register_buffer("mask", torch.ones_like(self.weight.data).triu(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data *= self.mask
        return super().forward(x)


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv(channels, channels), Conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


class Group(nn.Module):
    def __init__(self, channels: int, number: int) -> None:
        super().__init__()
        self.res_blocks = nn.Sequential(*(Block(channels) for _ in range(number)))
        self.conv_out = Conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_out(self.res_blocks(x))


class Features(nn.Module):
    def __init__(self, channels: int, number: int) -> None:
        super().__init__()
        self.conv1 = Conv(3, channels)
        self.RIR_blocks = nn.Sequential(*(Group(channels, number) for _ in range(number)))
        self.conv2 = Conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(x)
        return first + self.conv2(self.RIR_blocks(first))


class TMBSN(nn.Module):
    """TM-BSN: (B, 3, H, W), [0, 255] -> the same shape."""

    def __init__(self, width: int = 48, num_blocks: int = 5) -> None:
        super().__init__()
        self.unet = Features(width, num_blocks)
        self.nin_A = nn.Conv2d(8 * width, 8 * width, 1)
        self.nin_B = nn.Conv2d(8 * width, 2 * width, 1)
        self.nin_C = nn.Conv2d(2 * width, 3, 1)

    def forward(self, noisy: Tensor, k: int = 4) -> Tensor:
        height, width = noisy.shape[-2:]
        side = max(height, width)
        x = F.pad(noisy / 255, (0, side - width, 0, side - height))
        features = self.unet(torch.cat([torch.rot90(x, -turns, (2, 3)) for turns in range(4)]))
        down = F.pad(features, (0, 0, k, 0))[:, :, :side].chunk(4)
        left = F.pad(features, (0, k, 0, 0))[:, :, :, k:].chunk(4)
        parts = [torch.rot90(part, turns, (2, 3)) for turns in range(4) for part in (down[turns], left[turns])]
        x = F.relu(self.nin_A(torch.cat(parts, dim=1)))
        x = self.nin_C(F.relu(self.nin_B(x)))
        return x[:, :, :height, :width] * 255

    def forward_teachers(self, noisy: Tensor, ks: Sequence[int] = KS) -> Tensor:
        return torch.stack([self(noisy, k) for k in ks])


def tmbsn_loss(net: TMBSN, noisy: Tensor) -> Tensor:
    return (net(noisy, k=5) - noisy).abs().mean()


def sampled_conv(x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Convolve ``x`` (B, C, H, W), reading it for every tap (i, j) of the mask at (scale i, scale j), bilinearly.

    The picture is reflected beyond its border.
    """
    height, width = x.shape[-2:]
    reach = weight.shape[-1] // 2
    rows = torch.arange(height, dtype=x.dtype, device=x.device)
    columns = torch.arange(width, dtype=x.dtype, device=x.device)
    total = bias.view(1, -1, 1, 1)
    for i, j in mask.nonzero().tolist():
        down = 2 * (rows + scale * (i - reach)) / (height - 1) - 1
        across = 2 * (columns + scale * (j - reach)) / (width - 1) - 1
        grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1).expand(len(x), -1, -1, -1)
        read = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=True)
        total = total + F.conv2d(read, weight[:, :, i : i + 1, j : j + 1])
    return total


def lgbpn_pass(net: LGBPN, noisy: Tensor, strides: tuple[int, int], scales: tuple[float, float]) -> Tensor:
    """Compute the test pass of ``net``, which is that of ``atbsn.archs``; H and W are multiples of both strides."""
    x = net.head(noisy)
    branches = []
    for branch, stride, scale, pad in zip((net.branch1, net.branch2), strides, scales, (2, 7), strict=True):
        conv = branch.Maskconv
        assert conv.bias is not None
        features = sampled_conv(x, conv.weight, conv.bias, conv.mask, scale)
        output = torch.empty_like(features)
        for a in range(stride):
            for b in range(stride):
                phase = F.pad(features[:, :, a::stride, b::stride], (pad, pad, pad, pad), mode="reflect")
                output[:, :, a::stride, b::stride] = branch.body(phase)[:, :, pad:-pad, pad:-pad]
        branches.append(output)
    return net.tail(torch.cat(branches, dim=1))
