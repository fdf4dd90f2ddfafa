"""The ordinary U-Nets of Neighbor2Neighbor, Blind2Unblind and SASS: one layout (Laine et al., arXiv 1901.10277)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atbsn.archs.base import Network, Tiled, in_full_precision, untiled
from atbsn.archs.unet import kaiming_init
from atbsn.ops import ways
from atbsn.ops.masker import CELL, collect_masked, masked_copies
from atbsn.ops.padding import pad_to_multiple
from atbsn.ops.upsampling import upsampled_beside, upsampling_kernel
from atbsn.registry import ARCHS
from atbsn.utils.types import NonNegativeFloat, PositiveInt

NUM_POOLINGS = 5
"""Number of poolings, as published."""
MAX_FOLDED = 4
"""Most channels of a skip with which a CPU folds the up-sampling into the convolution: those of a colour picture or of
a packed Bayer mosaic."""

VariantName = Literal["n2n", "b2u", "sass"]


@dataclass(frozen=True)
class Variant:
    """What differs between the three networks.

    Attributes:
        slope: negative slope of every LeakyReLU.
        transposed: whether to up-sample by a transposed convolution, with bias and no activation, or by nearest
            neighbours.
        last_width: gives the channels after the last stage for a width of the network.
        num_head: number of 1x1 convolutions at the end, the last one linear.
        scale: what the picture is divided by inside the network.
        foreign_names: the authors' names of the layers, in the order of ``layer_names``.
    """

    slope: float
    transposed: bool
    last_width: Callable[[int], int]
    num_head: int
    scale: float
    foreign_names: tuple[str, ...]


_STAGES = range(NUM_POOLINGS, 0, -1)
"""Stages of the decoder, from the lowest resolution on, as the authors count them."""
_N2N_NAMES = (
    *(f"enc_conv{i}" for i in range(7)),
    *(f"up{i}.deconv" for i in _STAGES),
    *(f"dec_conv{i}{letter}" for i in _STAGES for letter in "ab"),
    *("nin_a", "nin_b", "nin_c"),
)
_B2U_NAMES = (
    *("head.0.block.0", "head.1.block.0", *(f"down_path.{i}.block.0" for i in range(5))),
    *(f"up_path.{i}.conv_{j}.block.0" for i in range(5) for j in (1, 2)),
    *("last.0.block.0", "last.1.block.0", "last.2"),
)
_SASS_NAMES = (
    *("encode_block_1.0", "encode_block_1.2", *(f"encode_block_{i}.0" for i in range(2, 7))),
    *(f"decode_block_{i}.{j}" for i in _STAGES for j in (0, 2)),
    "output_conv",
)
VARIANTS = {
    "n2n": Variant(0.2, True, lambda width: 96, 3, 255.0, _N2N_NAMES),
    "b2u": Variant(0.1, False, lambda width: 2 * width, 3, 255.0, _B2U_NAMES),
    "sass": Variant(0.1, False, lambda width: 2 * width, 1, 1.0, _SASS_NAMES),
}
"""The published networks."""


class PlainDecoder(nn.Module):
    """Two convolutions of the concatenation (x, skip). An ``x`` of half the size is up-sampled first."""

    def __init__(self, in_channels: int, channels: int, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        half = x.shape[-1] < skip.shape[-1]
        if half and skip.shape[1] <= MAX_FOLDED and not ways.like_a_gpu(x.device):  # as ``ConvLReLU.upsampled``
            ahead, beside = self.conv1.weight.split((x.shape[1], skip.shape[1]), dim=1)
            x = F.conv_transpose2d(x, upsampling_kernel(ahead), stride=2, padding=1)
            x = x.add_(F.conv2d(skip, beside, self.conv1.bias, padding=1))
        else:
            x = upsampled_beside(x, skip) if half else torch.cat((x, skip.to(x.dtype)), dim=1)
            x = self.conv1(x)
        x = self.conv2(F.leaky_relu(x, self.slope, inplace=True))
        return F.leaky_relu(x, self.slope, inplace=True)


@ARCHS.register
class UNet(Network):
    """A plain U-Net with five poolings. Its skips are the pooled features, and the picture for the last stage.

    ``net(noisy)``: (B, 3, H, W), RGB, [0, 255], any size (padded to a multiple of 32 by reflection) -> the same shape,
    not clipped. The networks of Neighbor2Neighbor and Blind2Unblind compute on [0, 1].

    Args:
        variant: ``n2n`` (arXiv 2101.02824; 1,259,475 parameters), ``b2u`` (arXiv 2203.06967; 1,102,371) or ``sass``
            (arXiv 2303.14934; 1,083,747).
        width: channels w of the encoder; the decoder has 2w, and n2n's last stage always 96.
        channels: number of channels of the pictures; 4 for raw data, published for n2n (1,260,868 parameters) and b2u
            (1,103,764).
    """

    size_multiple = 2**NUM_POOLINGS

    def __init__(self, variant: VariantName = "n2n", width: PositiveInt = 48, channels: PositiveInt = 3) -> None:
        super().__init__()
        self.channels = channels
        kind = VARIANTS[variant]
        self.slope, self.scale, self.transposed = kind.slope, kind.scale, kind.transposed
        self.enc = nn.ModuleList(nn.Conv2d(channels if i == 0 else width, width, 3, padding=1) for i in range(7))
        deep, last = 2 * width, kind.last_width(width)
        below = (width, deep, deep, deep, deep)
        if kind.transposed:
            self.up = nn.ModuleList(nn.ConvTranspose2d(channels, channels, 2, stride=2) for channels in below)
        skips, outputs = (width,) * 4 + (channels,), (deep,) * 4 + (last,)
        self.dec = nn.ModuleList(
            PlainDecoder(x + skip, out, kind.slope) for x, skip, out in zip(below, skips, outputs, strict=True)
        )
        self.head = nn.ModuleList(nn.Conv2d(last, last, 1) for _ in range(kind.num_head - 1))
        self.head.append(nn.Conv2d(last, channels, 1))
        self._initialise(variant)

    def forward(self, noisy: Tensor) -> Tensor:
        image = pad_to_multiple(noisy / self.scale, self.size_multiple)
        x = self._activate(self.enc[0](image))
        skips = [image]
        for conv in self.enc[1:-1]:
            x = F.max_pool2d(self._activate(conv(x)), 2)
            skips.append(x)
        x = self._activate(self.enc[-1](x))
        for stage, (decoder, skip) in enumerate(zip(self.dec, skips[-2::-1], strict=True)):
            if self.transposed:
                x = self.up[stage](x)
            x = decoder(x, skip)
        *layers, last = self.head
        assert isinstance(last, nn.Conv2d)
        for conv in layers:
            x = self._activate(conv(x))
        return in_full_precision(last, last.weight, x)[..., : noisy.shape[-2], : noisy.shape[-1]] * self.scale

    def blind(self, noisy: Tensor) -> Tensor:
        """Blind2Unblind's h: predict every pixel of ``noisy`` (B, 3, H, W) without seeing it; the same shape.

        Sixteen masked copies of a picture (``masked_copies``) pass through the network, four at once unless a gradient
        is needed. If H and W are multiples of 32, an output depends neither on its own pixel nor on the pixels that are
        masked with it, which are every fourth one down and across.
        """
        image = pad_to_multiple(noisy, self.size_multiple)
        copies = masked_copies(image)
        at_once = len(copies) if torch.is_grad_enabled() else CELL
        outputs = torch.cat([self(part) for part in copies.split(at_once)])
        return collect_masked(outputs)[..., : noisy.shape[-2], : noisy.shape[-1]]

    def denoise(self, noisy: Tensor, tiled: Tiled = untiled, *, beta: NonNegativeFloat | None = None) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], any size; the same shape back, not clipped.

        Args:
            beta: mix the blind pass h and the plain pass f as Blind2Unblind does, (h + beta f) / (1 + beta), in 17
                passes; published with 19 to 20. None: f alone.
        """
        if beta is None:
            return tiled(self, noisy)
        return tiled(lambda tile: (self.blind(tile) + beta * self(tile)) / (1 + beta), noisy)

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        if "enc.0.weight" not in shapes or "dec.0.conv1.weight" not in shapes or "head.0.weight" not in shapes:
            return None
        variant = "n2n" if "up.0.weight" in shapes else "b2u" if "head.1.weight" in shapes else "sass"
        width, channels = shapes["enc.0.weight"][:2]
        return {"variant": variant, "width": width, "channels": channels}

    @classmethod
    def convert_state(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Convert the state dict of one of the authors' U-Nets to our names; None if it is none of them."""
        layers = {name.rpartition(".")[0] for name in state}
        for variant in VARIANTS.values():
            if layers == set(variant.foreign_names):
                own = dict(zip(variant.foreign_names, layer_names(variant), strict=True))
                parts = {name: name.rpartition(".") for name in state}
                return {f"{own[layer]}.{kind}": state[name] for name, (layer, _, kind) in parts.items()}
        return None

    def _activate(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.slope, inplace=True)

    @torch.no_grad()
    def _initialise(self, variant: VariantName) -> None:
        """Initialise the weights as published. B2U keeps PyTorch's own initialisation."""
        if variant == "sass":
            kaiming_init(self)
        elif variant == "n2n":
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                    layer.weight *= 0.1
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)


def layer_names(variant: Variant) -> tuple[str, ...]:
    """List our names of the layers: encoder, up-sampling, decoder, head."""
    return (
        *(f"enc.{i}" for i in range(7)),
        *(f"up.{i}" for i in range(NUM_POOLINGS) if variant.transposed),
        *(f"dec.{i}.conv{j}" for i in range(NUM_POOLINGS) for j in (1, 2)),
        *(f"head.{i}" for i in range(variant.num_head)),
    )
