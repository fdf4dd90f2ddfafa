"""PUCA (NeurIPS 2023): a U-Net of gated blocks after a masked convolution, which patch-unshuffle keeps blind."""

from collections.abc import Iterable
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from atbsn.archs.base import Network, Tiled, in_full_precision, seeded, untiled
from atbsn.archs.dbsn import CentreMaskedConv2d
from atbsn.archs.foreign import under_our_names
from atbsn.ops.padding import pad_to_multiple
from atbsn.ops.patch_unshuffle import patch_shuffle, patch_unshuffle
from atbsn.ops.pixel_shuffle import pixel_shuffle_downsample, pixel_shuffle_upsample
from atbsn.ops.refinement import random_replacing_refinement, replacement_masks
from atbsn.ops.surround import surrounded
from atbsn.registry import ARCHS
from atbsn.utils.types import Fraction, NonNegativeInt, PositiveInt

STRIDE_TRAIN, STRIDE_TEST = 4, 2
"""Strides of PD in training and while denoising, as published; the refinement has no PD."""

PAD = 2
"""Pixels of zeros around each tile of a mosaic, as published."""

REFINE_PAD = 4
"""Pixels of reflection around a picture that is refined, as published."""


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel, (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PUCABlock(nn.Module):
    """NAFNet's block (arXiv 2204.04676) with dilation 2, and with ``beta`` and ``gamma`` 1 at the beginning, not 0.

    Its channel attention takes means over all pixels. Only through them does an output depend on all pixels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=2, dilation=2, groups=2 * channels)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1))
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.norm2 = ChannelNorm(channels)
        self.conv4 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = _gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.beta * self.conv3(y * self.sca(y))
        return x + self.gamma * self.conv5(_gate(self.conv4(self.norm2(x))))


@ARCHS.register
class PUCA(Network):
    """Blind-spot U-Net with channel attention.

    ``net(noisy)``: ``noisy`` (B, 3, H, W), RGB, float in [0, 255], any size -> the same shape, not clipped. This is the
    pass that it is trained with, L = mean |net(y) - y|, on PD with stride 4. ``denoise`` uses PD with stride 2, then
    random-replacing refinement (R3) without PD.

    If the means of its channel attention are taken as constants, an output does not depend on its own pixel, in any
    pass. Through the means, a relative gradient of about 1e-4 comes from all pixels.

    Args:
        width: channels of the first level; twice and four times as many follow. 128 has 12,783,491 parameters.
        enc_blocks: blocks of the two levels on the way down.
        middle_blocks: blocks of the deepest level.
        dec_blocks: blocks of the two levels on the way up.
    """

    blind_forward = True
    size_multiple = 8  # two patch-unshuffles, and the strides of PD
    tile_overlap = 64
    sees_whole_tile = True

    def __init__(
        self,
        width: PositiveInt = 128,
        enc_blocks: tuple[PositiveInt, PositiveInt] = (3, 4),
        middle_blocks: PositiveInt = 4,
        dec_blocks: tuple[PositiveInt, PositiveInt] = (4, 3),
    ) -> None:
        super().__init__()
        self.intro = nn.Conv2d(3, width, 1)
        self.masked_conv = nn.Sequential(
            CentreMaskedConv2d(width, 3), nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        )
        self.encoders = nn.ModuleList(_blocks(width << level, number) for level, number in enumerate(enc_blocks))
        self.downs = nn.ModuleList(nn.Sequential(nn.Conv2d(c, c // 2, 1)) for c in (width, 2 * width))
        self.middle_blks = _blocks(4 * width, middle_blocks)
        self.ups = nn.ModuleList(nn.Sequential(nn.Conv2d(c, 2 * c, 1)) for c in (4 * width, 2 * width))
        self.decoders = nn.ModuleList(_blocks(c, n) for c, n in zip((2 * width, width), dec_blocks, strict=True))
        self.final = nn.Conv2d(width, width, 1)
        self.tail = nn.Sequential(
            nn.Conv2d(width, width, 1),
            nn.Conv2d(width, width // 2, 1),
            nn.Conv2d(width // 2, width // 2, 1),
            nn.Conv2d(width // 2, 3, 1),
        )

    def forward(self, noisy: Tensor) -> Tensor:
        return self.forward_strided(noisy, STRIDE_TRAIN)

    def forward_strided(self, noisy: Tensor, stride: int) -> Tensor:
        """Compute a pass on a PD mosaic with this ``stride`` (1, 2, 4 or 8), (B, 3, H, W) -> the same shape."""
        height, width = noisy.shape[-2:]
        x = self.intro(pad_to_multiple(noisy, self.size_multiple))
        x = pixel_shuffle_upsample(self.body(pixel_shuffle_downsample(x, stride, PAD)), stride, PAD)
        return self._tail(x)[..., :height, :width]

    def forward_whole(self, noisy: Tensor) -> Tensor:
        """Compute a pass of the refinement, without PD, (B, 3, H, W) -> the same shape."""
        height, width = noisy.shape[-2:]
        x = self.intro(pad_to_multiple(noisy, self.size_multiple))
        return self._tail(surrounded(self.body, x, REFINE_PAD))[..., :height, :width]

    def body(self, x: Tensor) -> Tensor:
        """Compute everything between the sub-samplings, (B, w, H, W) -> the same shape; H and W multiples of 8."""
        x = self.masked_conv(x)
        skips = []
        for blocks, down in zip(self.encoders, self.downs, strict=True):
            x = blocks(x)
            skips.append(x)
            x = patch_unshuffle(down(x))
        x = self.middle_blks(x)
        for blocks, up in zip(self.decoders, self.ups, strict=True):
            x = blocks(patch_shuffle(up(x)) + skips.pop())
        return self.final(x)

    def denoise(
        self,
        noisy: Tensor,
        tiled: Tiled = untiled,
        *,
        refine: NonNegativeInt = 8,
        p: Fraction = 0.16,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], any size; the same shape, not clipped.

        The channel attention takes means over a tile, so tiles of other sizes give slightly different results.

        Args:
            refine: number of passes of R3; 0 for none.
            p: share of the values that are noisy in each of these passes.
        """
        once = tiled(lambda tile: self.forward_strided(tile, STRIDE_TEST), noisy)
        if not refine:
            return once
        return self.refine(noisy, once, replacement_masks(noisy, refine, p, seeded(generator, noisy)), tiled)

    def refine(self, noisy: Tensor, estimate: Tensor, masks: Iterable[Tensor], tiled: Tiled = untiled) -> Tensor:
        """Refine ``estimate`` (B, 3, H, W) by R3 with ``masks`` of ``ops.refinement.replacement_masks``."""
        one_pass = partial(tiled, self.forward_whole)
        return random_replacing_refinement(one_pass, noisy, estimate, masks, margin=0)

    @classmethod
    def example(cls) -> dict[str, Any]:
        return {"width": 4, "enc_blocks": [1, 1], "middle_blocks": 1, "dec_blocks": [1, 1]}

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        if "masked_conv.0.weight" not in shapes or "encoders.0.0.beta" not in shapes:
            return None

        def blocks(part: str) -> int:
            return next(number for number in count() if f"{part}.{number}.beta" not in shapes)

        return {
            "width": shapes["intro.weight"][0],
            "enc_blocks": [blocks("encoders.0"), blocks("encoders.1")],
            "middle_blocks": blocks("middle_blks"),
            "dec_blocks": [blocks("decoders.0"), blocks("decoders.1")],
        }

    @classmethod
    def convert_state(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Convert the authors' state dict, which has the prefix ``bsn.`` and a mask.

        None if it has our names already or is another network's.
        """
        return under_our_names(cls.recognise, state)

    def _tail(self, x: Tensor) -> Tensor:
        last = self.tail[-1]
        assert isinstance(last, nn.Conv2d)
        return in_full_precision(last, last.weight, self.tail[:-1](x))


def _blocks(channels: int, number: int) -> nn.Sequential:
    return nn.Sequential(*(PUCABlock(channels) for _ in range(number)))


def _gate(x: Tensor) -> Tensor:
    """Multiply one half of the channels with the other."""
    first, second = x.chunk(2, dim=1)
    return first * second
