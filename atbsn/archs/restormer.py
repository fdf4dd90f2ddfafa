"""Transformer blocks of Restormer (Zamir et al., arXiv 2111.09881) with dilated depthwise convolutions, bias-free.

Dilation d keeps a blind spot: what such a block mixes lies a multiple of d apart. Only the attention maps, sums
over all pixels, see everything.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BiasFreeNorm(nn.Module):
    """x / std(x) * w over the channels of each pixel; x is not centred."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.ParameterDict({"weight": torch.ones(channels)})

    def forward(self, x: Tensor) -> Tensor:
        scale = (x.var(dim=1, keepdim=True, correction=0) + 1e-5).rsqrt()
        return x * scale * self.body["weight"].view(-1, 1, 1)


class ChannelAttention(nn.Module):
    """Multi-Dconv-head transposed attention (MDTA): every channel attends to the channels of its head.

    The attention map is made of products over all pixels.
    """

    def __init__(self, channels: int, num_heads: int, dilation: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = _depthwise(3 * channels, dilation)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv_dwconv(self.qkv(x))
        query, key, value = qkv.flatten(2).unflatten(1, (3, self.num_heads, -1)).unbind(1)  # (B, heads, c, H W)
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        attention = (query @ key.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        mixed = (attention.to(value.dtype) @ value).flatten(1, 2)
        return self.project_out(mixed.unflatten(2, x.shape[-2:]))


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

    def __init__(self, channels: int, num_heads: int, dilation: int) -> None:
        super().__init__()
        self.norm1 = BiasFreeNorm(channels)
        self.attn = ChannelAttention(channels, num_heads, dilation)
        self.norm2 = BiasFreeNorm(channels)
        self.ffn = GatedFeedForward(channels, dilation)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


def _depthwise(channels: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels, bias=False)
