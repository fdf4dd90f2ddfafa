"""A fast ordinary network for photographs: a U-Net of residual blocks that estimates the noise."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from annotated_types import MinLen
from torch import Tensor, nn
from torch.nn import functional as F

from atbsn.archs.base import Network, Tiled, in_full_precision, untiled
from atbsn.archs.unet import channel_multiple
from atbsn.ops.convolution import Conv2d
from atbsn.ops.local_median import local_median
from atbsn.ops.padding import pad_to_multiple, reflect_pad
from atbsn.ops.root import from_root, to_root
from atbsn.registry import ARCHS
from atbsn.utils.types import NonNegativeInt, PositiveInt

GREY, SPAN, STEP = 127.5, 64.0, 32.0
"""Grey values: the network sees (y - GREY) / SPAN and outputs the correction divided by STEP. Chosen by hand, so that
inputs and corrections are about 1."""
MARGIN = 8
"""Pixels of reflection that ``denoise`` puts around a picture, because the zeros that convolutions see beyond an edge
leave rims. Chosen by hand."""

SKEW = 1 / 6
"""Standard deviations by which the median of a camera's noise may lie below its mean. A distribution of skewness g has
its median about g / 6 standard deviations below its mean (Cornish and Fisher, 1938). g is 1 for counts of one photon;
on SIDD's pairs it is 0.1 in the middle tones and up to 1.5 in the dark."""

_SHIFTS = {1: ((0, 0),), 2: ((0, 0), (1, 1)), 4: ((0, 0), (0, 1), (1, 0), (1, 1))}
"""Rows and columns by which a picture is shifted against the cells of 2 x 2 pixels, for every number of shifts."""


class ResidualBlock(nn.Module):
    """x + 3x3(ReLU(3x3(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = Conv2d(width, width, 3, padding=1)
        self.conv2 = Conv2d(width, width, 3, padding=1)
        for conv, std in ((self.conv1, (2 / (9 * width)) ** 0.5), (self.conv2, 0.1 / width**0.5)):
            nn.init.normal_(conv.weight, std=std)
            _zero(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x), inplace=True))


@ARCHS.register
class PhotoNet(Network):
    """U-Net of residual blocks at half resolution and below; the output is the input plus a correction.

    ``net(noisy)``: (B, 3, H, W), RGB, float in [0, 255], any size (padded to a multiple by reflection) -> the same
    shape, not clipped. Cells of 2 x 2 pixels become 12 channels (as in FFDNet, Zhang et al., arXiv 1710.04026), so that
    most of the arithmetic is done at a quarter of the pixels. The last layer starts at zero, so an untrained network is
    the identity.

    With ``keep_colours``, which is the default of ``denoise``, the local median of what was taken off, noisy -
    N(noisy), is added to the output again (``local_median``, blocks of 64 x 64 pixels). So flat regions keep their
    colours. The reason: a camera's tone curve is monotone, so the median of noisy pixels is the tone of their
    noise-free value, while their mean is not. Half of what a denoiser takes off should be above 0 and half below,
    whatever the colour. Where there are few photons, the noise is skewed and its median is a little too dark. So an
    output that is brighter by up to a sixth of the noise's standard deviation (``SKEW``) is not changed.

    The 2 x 2 phases of a picture are different channels, so a picture that is shifted by a pixel is denoised a little
    differently. ``shifts`` of ``denoise`` averages the output over 2 shifts (none, and one pixel down and right) or
    over all 4, with 2 or 4 times the arithmetic.

    Args:
        widths: channels at 1/2, 1/4, 1/8, ... of the resolution; the default has 1,210,444 parameters and
            75,000 multiply-adds a pixel.
        blocks: residual blocks before each down-sampling, and as many after each up-sampling.
        middle_blocks: residual blocks at the lowest resolution.
        channels: number of channels of the pictures.
        curve: ``root``: the network works on the square root of the light (``to_root``), for pictures that are linear,
            such as raw data. Inputs and outputs are still linear.
    """

    size_multiple = 8
    tile_overlap = 64

    def __init__(
        self,
        widths: Annotated[Sequence[PositiveInt], MinLen(1)] = (48, 64, 96),
        blocks: PositiveInt = 2,
        middle_blocks: NonNegativeInt = 4,
        channels: PositiveInt = 3,
        curve: Literal["none", "root"] = "none",
    ) -> None:
        super().__init__()
        self.channels, self.curve = channels, curve
        self.multiple = 2 ** len(widths)
        self.head = Conv2d(4 * channels, widths[0], 3, padding=1)
        pairs = list(pairwise(widths))
        self.encoders = nn.ModuleList(_chain(width, blocks) for width, _ in pairs)
        self.down = nn.ModuleList(Conv2d(above, below, 2, stride=2) for above, below in pairs)
        self.middle = _chain(widths[-1], middle_blocks)
        self.up = nn.ModuleList(nn.ConvTranspose2d(below, above, 2, stride=2) for above, below in pairs)
        self.decoders = nn.ModuleList(_chain(width, blocks) for width, _ in pairs)
        self.tail = Conv2d(widths[0], 4 * channels, 3, padding=1)
        _zero(self.tail.weight)
        _zero(self.tail.bias)

    def forward(self, noisy: Tensor) -> Tensor:
        return self._corrected(noisy) if self.curve == "none" else from_root(self._corrected(to_root(noisy)))

    def _corrected(self, noisy: Tensor) -> Tensor:
        height, width = noisy.shape[-2:]
        cells = F.pixel_unshuffle((pad_to_multiple(noisy, self.multiple) - GREY) / SPAN, 2)
        more = -cells.shape[1] % channel_multiple(cells.device)
        cells = F.pad(cells, (0, 0, 0, 0, 0, more)) if more else cells
        x = self.head(cells.contiguous(memory_format=torch.channels_last))
        skips = []
        for encoder, down in zip(self.encoders, self.down, strict=True):
            skips.append(encoder(x))
            x = down(skips[-1])
        x = self.middle(x)
        for decoder, up, skip in zip(reversed(self.decoders), reversed(self.up), reversed(skips), strict=True):
            x = decoder(up(x) + skip)
        correction = F.pixel_shuffle(in_full_precision(self.tail, self.tail.weight, x), 2)
        return noisy + STEP * correction[..., :height, :width]

    def denoise(
        self,
        noisy: Tensor,
        tiled: Tiled = untiled,
        *,
        keep_colours: bool = True,
        shifts: Literal[1, 2, 4] = 1,
    ) -> Tensor:
        return tiled(partial(self._with_colours_kept if keep_colours else self._in_a_margin, shifts=shifts), noisy)

    def _in_a_margin(self, noisy: Tensor, shifts: int) -> Tensor:
        height, width = noisy.shape[-2:]
        padded = reflect_pad(noisy, MARGIN, MARGIN, MARGIN, MARGIN)
        outputs = [
            self(padded[..., down:, right:])[..., MARGIN - down :, MARGIN - right :][..., :height, :width]
            for down, right in _SHIFTS[shifts]
        ]
        return outputs[0] if shifts == 1 else torch.stack(outputs).mean(dim=0)

    def _with_colours_kept(self, noisy: Tensor, shifts: int) -> Tensor:
        clean = self._in_a_margin(noisy, shifts)
        return clean + local_median(noisy - clean, slack=SKEW)

    @property
    def tile_multiple(self) -> int:
        return self.multiple

    @classmethod
    def is_local(cls) -> bool:
        return True

    @classmethod
    def example(cls) -> dict[str, Any]:
        return {"widths": [4, 4], "blocks": 1, "middle_blocks": 1}

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        if "tail.weight" not in shapes or "head.weight" not in shapes:
            return None
        cells = shapes["head.weight"][1]  # 2 x 2 pixels of each channel
        if cells % 4 or shapes["tail.weight"][0] != cells:
            return None
        levels = sum(key.startswith("down.") and key.endswith(".weight") for key in shapes)
        return {
            "widths": [shapes["head.weight"][0], *(shapes[f"down.{level}.weight"][0] for level in range(levels))],
            "blocks": sum(key.startswith("encoders.0.") and key.endswith("conv1.weight") for key in shapes) or 1,
            "channels": cells // 4,
            "middle_blocks": sum(key.startswith("middle.") and key.endswith("conv1.weight") for key in shapes),
        }


def _zero(parameter: Tensor | None) -> None:
    assert parameter is not None
    nn.init.zeros_(parameter)


def _chain(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
