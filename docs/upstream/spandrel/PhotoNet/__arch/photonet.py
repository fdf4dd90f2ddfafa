"""PhotoNet: a U-Net of residual blocks on cells of 2 x 2 pixels that gives the noise of a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

GREY, SPAN, STEP = 127.5, 64.0, 32.0
MARGIN = 8
BLOCK = 64
SKEW = 1 / 6


def reflect(x: torch.Tensor, left: int, right: int, top: int, bottom: int) -> torch.Tensor:
    """Reflection padding that may be larger than the image."""

    def index(size: int, before: int, after: int) -> torch.Tensor:
        i = torch.arange(-before, size + after, device=x.device)
        if size == 1:
            return torch.zeros_like(i)
        i = i.remainder(2 * (size - 1))
        return torch.minimum(i, 2 * (size - 1) - i)

    height, width = x.shape[-2:]
    return x.index_select(-2, index(height, top, bottom)).index_select(-1, index(width, left, right))


def reflect_to_multiple(x: torch.Tensor, multiple: int) -> torch.Tensor:
    height, width = x.shape[-2:]
    return reflect(x, 0, -width % multiple, 0, -height % multiple)


def local_median(x: torch.Tensor) -> torch.Tensor:
    """Medians over blocks of 64 x 64 pixels, bilinear between them. A small negative one counts as 0."""
    height, width = x.shape[-2:]
    blocks = reflect_to_multiple(x.float(), BLOCK).unflatten(-1, (-1, BLOCK)).unflatten(-3, (-1, BLOCK))
    blocks = blocks.transpose(-3, -2).flatten(-2)
    medians = blocks.median(dim=-1).values
    deviations = (torch.pi / 2) ** 0.5 * (blocks - medians[..., None]).abs().mean(dim=-1)
    medians = F.relu(medians) - F.relu(-medians - SKEW * deviations)
    return F.interpolate(medians, scale_factor=BLOCK, mode="bilinear", align_corners=False)[..., :height, :width]


class ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


def chain(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))


class PhotoNet(nn.Module):
    """(B, C, H, W), RGB in [0, 1], any size -> the same shape, not clipped.

    The colours of flat regions are kept: the local median of what was taken off is given back.
    """

    def __init__(
        self,
        widths: Sequence[int] = (48, 64, 96),
        blocks: int = 2,
        middle_blocks: int = 4,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.widths, self.blocks, self.middle_blocks, self.channels = tuple(widths), blocks, middle_blocks, channels
        pairs = list(pairwise(widths))
        self.head = nn.Conv2d(4 * channels, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(chain(width, blocks) for width, _ in pairs)
        self.down = nn.ModuleList(nn.Conv2d(above, below, 2, stride=2) for above, below in pairs)
        self.middle = chain(widths[-1], middle_blocks)
        self.up = nn.ModuleList(nn.ConvTranspose2d(below, above, 2, stride=2) for above, below in pairs)
        self.decoders = nn.ModuleList(chain(width, blocks) for width, _ in pairs)
        self.tail = nn.Conv2d(widths[0], 4 * channels, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[-2:]
        noisy = image * 255
        padded = reflect(noisy, MARGIN, MARGIN, MARGIN, MARGIN)
        clean = self.corrected(padded)[..., MARGIN : MARGIN + height, MARGIN : MARGIN + width]
        return (clean + local_median(noisy - clean).to(clean.dtype)) / 255

    def corrected(self, noisy: torch.Tensor) -> torch.Tensor:
        height, width = noisy.shape[-2:]
        x = F.pixel_unshuffle((reflect_to_multiple(noisy, 2 ** len(self.widths)) - GREY) / SPAN, 2)
        x = self.head(x)
        skips: list[torch.Tensor] = []
        for encoder, down in zip(self.encoders, self.down, strict=True):
            skips.append(encoder(x))
            x = down(skips[-1])
        x = self.middle(x)
        for decoder, up, skip in zip(reversed(self.decoders), reversed(self.up), reversed(skips), strict=True):
            x = decoder(up(x) + skip)
        return noisy + STEP * F.pixel_shuffle(self.tail(x), 2)[..., :height, :width]
