"""Restormer (Zamir et al., CVPR 2022, arXiv 2111.09881), bias-free, and its blocks with dilated depthwise convolutions.

Dilation d keeps a blind spot, because such a block only mixes pixels that lie multiples of d apart. Only through the
attention maps, which are sums over all pixels, does an output depend on all pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atbsn.archs.base import in_full_precision

HEADS = (1, 2, 4, 8)
"""Number of heads of the attention at full, half, a quarter and an eighth of the resolution, as published."""


class BiasFreeNorm(nn.Module):
    """x / std(x) * w, with the standard deviation over the channels of each pixel; x is not centred."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.ParameterDict({"weight": torch.ones(channels)})

    def forward(self, x: Tensor) -> Tensor:
        scale = (x.var(dim=1, keepdim=True, correction=0) + 1e-5).rsqrt()
        return x * scale * self.body["weight"].view(-1, 1, 1)


class ChannelAttention(nn.Module):
    """Multi-Dconv-head transposed attention (MDTA): every channel attends to the channels of its head.

    The attention map is a sum of products over all pixels.

    Args:
        num_phases: number of items of the batch that are sub-images of one picture, in the order of ``space_to_batch``.
            They share one attention map.
    """

    def __init__(self, channels: int, num_heads: int, dilation: int, num_phases: int = 1) -> None:
        super().__init__()
        self.num_heads, self.num_phases = num_heads, num_phases
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = _depthwise(3 * channels, dilation)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv_dwconv(self.qkv(x))
        parts = qkv.flatten(2).unflatten(1, (3, self.num_heads, -1)).unflatten(0, (self.num_phases, -1))
        query, key, value = parts.permute(1, 2, 3, 4, 0, 5).flatten(4).unbind(1)  # (B, heads, c, phases H W)
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        attention = (query @ key.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        mixed = (attention.to(value.dtype) @ value).flatten(1, 2)
        phases = mixed.unflatten(2, (self.num_phases, *x.shape[-2:])).movedim(2, 0)
        return self.project_out(phases.flatten(0, 1))


class GatedFeedForward(nn.Module):
    """Gated-Dconv feed-forward network (GDFN): GELU(first half) * second half."""

    def __init__(self, channels: int, dilation: int, expansion: float = 2.66) -> None:
        super().__init__()
        hidden = int(expansion * channels)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.dwconv = _depthwise(2 * hidden, dilation)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, content = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * content)


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)); (B, channels, H, W), any size."""

    def __init__(self, channels: int, num_heads: int, dilation: int = 1) -> None:
        super().__init__()
        self.norm1 = BiasFreeNorm(channels)
        self.attn = ChannelAttention(channels, num_heads, dilation)
        self.norm2 = BiasFreeNorm(channels)
        self.ffn = GatedFeedForward(channels, dilation)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class Restormer(nn.Module):
    """Transformer U-Net of three poolings: (B, C, H, W), any scale, H and W multiples of 8 -> the same shape.

    Other than the published one, it does not add the picture to its output. The names of the weights are the authors'.
    With width 48 and the published blocks it has 26.1 million parameters.

    Args:
        width: channels of the first level, an even number; the next levels have 2, 4 and 8 times as many.
        num_blocks: blocks of the four levels, on the way down and up.
        num_refinement: blocks after the last level.
        channels: C, number of channels of the picture.
    """

    def __init__(self, width: int, num_blocks: Sequence[int], num_refinement: int, channels: int = 3) -> None:
        super().__init__()

        def blocks(number: int, level: int, width: int) -> nn.Sequential:
            return nn.Sequential(*(TransformerBlock(width, HEADS[level]) for _ in range(number)))

        self.patch_embed = nn.ModuleDict({"proj": _conv3(channels, width)})
        for level in range(3):
            self.add_module(f"encoder_level{level + 1}", blocks(num_blocks[level], level, width << level))
            self.add_module(f"down{level + 1}_{level + 2}", _resampled(width << level, (width << level) // 2))
        self.latent = blocks(num_blocks[3], 3, 8 * width)
        for level in (2, 1, 0):
            self.add_module(f"up{level + 2}_{level + 1}", _resampled(width << level + 1, width << level + 2))
            if level:
                self.add_module(f"reduce_chan_level{level + 1}", _conv1(width << level + 1, width << level))
            self.add_module(f"decoder_level{level + 1}", blocks(num_blocks[level], level, width << max(level, 1)))
        self.refinement = blocks(num_refinement, 0, 2 * width)
        self.output = _conv3(2 * width, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed["proj"](x)
        skips = []
        for level in (1, 2, 3):
            x = self.get_submodule(f"encoder_level{level}")(x)
            skips.append(x)
            x = F.pixel_unshuffle(self.get_submodule(f"down{level}_{level + 1}.body")(x), 2)
        x = self.latent(x)
        for level in (3, 2, 1):
            x = F.pixel_shuffle(self.get_submodule(f"up{level + 1}_{level}.body")(x), 2)
            x = torch.cat((x, skips.pop()), dim=1)
            if level > 1:
                x = self.get_submodule(f"reduce_chan_level{level}")(x)
            x = self.get_submodule(f"decoder_level{level}")(x)
        return in_full_precision(self.output, self.output.weight, self.refinement(x))


def _conv3(channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)


def _conv1(channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out_channels, 1, bias=False)


def _resampled(channels: int, out_channels: int) -> nn.ModuleDict:
    """Make the convolution before a pixel-unshuffle or a pixel-shuffle."""
    return nn.ModuleDict({"body": nn.Sequential(_conv3(channels, out_channels))})


def _depthwise(channels: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels, bias=False)
