"""TBSN (AAAI 2025): a transformer U-Net that moves in steps of two pixels, after a masked convolution."""

from collections.abc import Iterable
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atbsn.archs.apbsn import Stride
from atbsn.archs.base import Network, Tiled, in_full_precision, seeded, untiled
from atbsn.archs.dbsn import CentreMaskedConv2d
from atbsn.archs.foreign import under_our_names
from atbsn.archs.restormer import BiasFreeNorm, ChannelAttention
from atbsn.ops.padding import pad_to_multiple
from atbsn.ops.refinement import random_replacing_refinement, replacement_masks
from atbsn.ops.subsample import batch_to_space, space_to_batch
from atbsn.registry import ARCHS
from atbsn.utils.types import Fraction, NonNegativeInt, PositiveInt

STEP = 2
"""Pixels: convolutions and attentions after the first layer only reach pixels that lie multiples of this apart."""
PHASES = STEP**2
"""Number of phases of a picture."""
HEAD = 16
"""Channels of a head of the window attention, as published."""
WINDOW, AROUND = 4, 6
"""Pixels of a phase: sides of a window of queries and of the window of keys around it. Published as 8 and 12 pixels of
the picture."""
REACH = 23
"""Rows of the published tables of relative positions: 12 keys against 8 queries, and 4 rows that are never read."""


class WindowAttention(nn.Module):
    """Every query of a window of 4 x 4 pixels attends to the 6 x 6 pixels around it: (N, C, H, W) -> the same shape.

    H and W are multiples of 4. The input is a phase of a picture, so queries in 8 x 8 pixels of the picture attend to
    every second pixel in 12 x 12. With q a query divided by 4, k a key, which is zero beyond the border, and (dy, dx)
    the distance between the two in pixels of the picture, the weights are::

        softmax over the keys of q . (k + rel_height[dy] + rel_width[dx])
    """

    between: Tensor

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Conv2d(channels, 3 * num_heads * HEAD, 1, bias=False)
        self.project_out = nn.Conv2d(num_heads * HEAD, channels, 1, bias=False)
        tables = ("rel_height", "rel_width")
        self.rel_pos_emb = nn.ParameterDict({name: torch.randn(REACH, HEAD) / HEAD**0.5 for name in tables})
        # The row of a key in its window of 12 less the row of a query in its window of 8; both belong to one phase.
        between = STEP * (torch.arange(AROUND) - torch.arange(WINDOW)[:, None])
        self.register_buffer("between", between + REACH // 2, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(1, (3, self.num_heads, HEAD)).unbind(1)  # (N, heads, 16, H, W)
        query = query.unflatten(4, (-1, WINDOW)).unflatten(3, (-1, WINDOW)).permute(0, 3, 5, 1, 4, 6, 2) / HEAD**0.5
        key, value = (_windows_around(part) for part in (key, value))
        down, across = (
            torch.einsum(f"...abd,{axis}kd->...abk", query, self.rel_pos_emb[name][self.between].to(query.dtype))
            for axis, name in (("a", "rel_height"), ("b", "rel_width"))
        )
        place = (down.unsqueeze(-1) + across.unsqueeze(-2)).flatten(-2).flatten(-3, -2)
        weights = (query.flatten(-3, -2) @ key.transpose(-2, -1) + place).softmax(dim=-1)
        mixed = (weights.to(value.dtype) @ value).unflatten(-2, (WINDOW, WINDOW))  # (N, rows, columns, heads, 4, 4, 16)
        return self.project_out(mixed.permute(0, 3, 6, 1, 4, 2, 5).flatten(5).flatten(3, 4).flatten(1, 2))


def _windows_around(x: Tensor) -> Tensor:
    """Collect the 6 x 6 pixels around each 4 x 4: (N, heads, C, H, W) -> (N, rows, columns, heads, 36, C)."""
    windows = F.pad(x, (1, 1, 1, 1)).unfold(3, AROUND, WINDOW).unfold(4, AROUND, WINDOW)
    return windows.permute(0, 3, 4, 1, 5, 6, 2).flatten(4, 5)


class FeedForward(nn.Module):
    """3x3, GELU, 3x3, without biases."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project_in = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.project_out(F.gelu(self.project_in(x)))


class Block(nn.Module):
    """Channel attention, feed-forward, window attention, feed-forward: each x + f(norm(x))."""

    def __init__(self, channels: int, channel_heads: int, window_heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3, self.norm4 = (BiasFreeNorm(channels) for _ in range(4))
        self.channel_attn = ChannelAttention(channels, channel_heads, dilation=1, num_phases=PHASES)
        self.channel_ffn = FeedForward(channels)
        self.spatial_attn = WindowAttention(channels, window_heads)
        self.spatial_ffn = FeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.channel_attn(self.norm1(x))
        x = x + self.channel_ffn(self.norm2(x))
        x = x + self.spatial_attn(self.norm3(x))
        return x + self.spatial_ffn(self.norm4(x))


@ARCHS.register
class TBSN(Network):
    """Transformer-based blind-spot network (Li et al., AAAI 2025, arXiv 2404.07846).

    ``net(noisy)``: ``noisy`` (B, 3, H, W), RGB, float in [0, 255], any size (padded to a multiple of 32 by reflection)
    -> the same shape, not clipped. ``denoise`` denoises the phases of a picture one by one, then adds random-replacing
    refinement (R3) at full resolution.

    After the centre-masked 3x3 convolution, everything published moves in steps of two pixels: dilated convolutions,
    masked windows and patch-unshuffles. So the four phases of the features can be treated as separate pictures. On a
    phase these are ordinary convolutions, ordinary windows and pixel-unshuffles: the same function with a quarter of
    the logits. Only the attention maps of the channels are shared by all four phases.

    If these maps are taken as constants, an output does not depend on inputs at even offsets, so not on its own pixel.
    Through the maps, a relative gradient of about 1e-5 comes from all pixels.

    Args:
        width: channels of the first level; the next levels have 2 and 4 times as many. 48 has 12,746,780 parameters.
        num_blocks: blocks of the first, the second and the deepest level, on the way down and up.
        num_refinement: blocks after the last level.
        channels: number of channels of the pictures.
    """

    blind_forward = True
    size_multiple = 32  # two poolings of phases into windows of 4
    tile_overlap = 64
    sees_whole_tile = True

    def __init__(
        self,
        width: PositiveInt = 48,
        num_blocks: tuple[PositiveInt, PositiveInt, PositiveInt] = (4, 4, 4),
        num_refinement: PositiveInt = 4,
        channels: PositiveInt = 3,
    ) -> None:
        super().__init__()
        self.channels = channels
        first, second, deepest = num_blocks
        self.patch_embed = nn.ModuleDict({"proj": CentreMaskedConv2d(channels, 3, width, bias=False)})
        self.encoder_level1 = _blocks(first, width, 1, 2)
        self.down1_2 = _before_unshuffle(width)
        self.encoder_level2 = _blocks(second, 2 * width, 2, 2)
        self.down2_3 = _before_unshuffle(2 * width)
        self.latent = _blocks(deepest, 4 * width, 4, 3)
        self.up3_2 = _before_shuffle(4 * width)
        self.reduce_chan_level2 = nn.Conv2d(4 * width, 2 * width, 1, bias=False)
        self.decoder_level2 = _blocks(second, 2 * width, 2, 2)
        self.up2_1 = _before_shuffle(2 * width)
        self.decoder_level1 = _blocks(first, 2 * width, 1, 2)
        self.refinement = _blocks(num_refinement, 2 * width, 1, 2)
        self.output = nn.Conv2d(2 * width, channels, 1, bias=False)

    def forward(self, noisy: Tensor) -> Tensor:
        height, width = noisy.shape[-2:]
        x = self.patch_embed["proj"](pad_to_multiple(noisy, self.size_multiple))
        features = batch_to_space(self.body(space_to_batch(x, STEP)), STEP)
        return in_full_precision(self.output, self.output.weight, features)[..., :height, :width]

    def body(self, x: Tensor) -> Tensor:
        """Compute everything after the masked convolution, on phases (4B, w, H/2, W/2) -> (4B, 2w, H/2, W/2)."""
        first = self.encoder_level1(x)
        second = self.encoder_level2(F.pixel_unshuffle(self.down1_2["body"](first), 2))
        x = self.latent(F.pixel_unshuffle(self.down2_3["body"](second), 2))
        x = torch.cat((F.pixel_shuffle(self.up3_2["body"](x), 2), second), dim=1)
        x = self.decoder_level2(self.reduce_chan_level2(x))
        x = torch.cat((F.pixel_shuffle(self.up2_1["body"](x), 2), first), dim=1)
        return self.refinement(self.decoder_level1(x))

    def denoise(
        self,
        noisy: Tensor,
        tiled: Tiled = untiled,
        *,
        pd: Stride = 2,
        refine: NonNegativeInt = 8,
        p: Fraction = 0.16,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], any size; the same shape, not clipped.

        The channel attention sums over a tile, so tiles of other sizes give slightly different results.

        Args:
            pd: stride of the sub-images of the first pass.
            refine: number of passes of R3; 0 for none.
            p: share of the values that are noisy in each of these passes.
        """
        once = self.in_phases(noisy, pd, tiled)
        if not refine:
            return once
        return self.refine(noisy, once, replacement_masks(noisy, refine, p, seeded(generator, noisy)), tiled)

    def in_phases(self, noisy: Tensor, pd: int, tiled: Tiled = untiled) -> Tensor:
        """Compute PD_pd^-1(net(PD_pd(noisy))), every phase as a picture of its own: (B, 3, H, W) -> the same shape."""
        phases = space_to_batch(pad_to_multiple(noisy, pd), pd)
        return batch_to_space(tiled(self, phases), pd)[..., : noisy.shape[-2], : noisy.shape[-1]]

    def refine(self, noisy: Tensor, estimate: Tensor, masks: Iterable[Tensor], tiled: Tiled = untiled) -> Tensor:
        """Refine ``estimate`` (B, 3, H, W) by R3 with ``masks`` of ``ops.refinement.replacement_masks``."""
        return random_replacing_refinement(partial(tiled, self), noisy, estimate, masks, margin=0)

    @classmethod
    def example(cls) -> dict[str, Any]:
        return {"width": 4, "num_blocks": [1, 1, 1], "num_refinement": 1}

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        if "encoder_level1.0.spatial_attn.rel_pos_emb.rel_height" not in shapes:
            return None

        def blocks(part: str) -> int:
            return next(number for number in count() if f"{part}.{number}.norm1.body.weight" not in shapes)

        width, channels = shapes["patch_embed.proj.weight"][:2]
        return {
            "width": width,
            "num_blocks": [blocks("encoder_level1"), blocks("encoder_level2"), blocks("latent")],
            "num_refinement": blocks("refinement"),
            "channels": channels,
        }

    @classmethod
    def convert_state(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Convert the authors' state dict, which has constant masks.

        None if it has our names already or is another network's.
        """
        return under_our_names(cls.recognise, state, left_out=("mask", "attention_mask"))


def _blocks(number: int, channels: int, channel_heads: int, window_heads: int) -> nn.Sequential:
    return nn.Sequential(*(Block(channels, channel_heads, window_heads) for _ in range(number)))


def _before_unshuffle(channels: int) -> nn.ModuleDict:
    return nn.ModuleDict({"body": nn.Sequential(nn.Conv2d(channels, channels // 2, 1, bias=False))})


def _before_shuffle(channels: int) -> nn.ModuleDict:
    return nn.ModuleDict({"body": nn.Sequential(nn.Conv2d(channels, 2 * channels, 1, bias=False))})
