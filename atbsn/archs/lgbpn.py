"""LG-BPN: a local and a global branch after patch-masked convolutions (Wang et al., CVPR 2023, arXiv 2304.00534)."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atbsn.archs.base import Network, Tiled, in_full_precision, seeded, untiled
from atbsn.archs.foreign import under_our_names
from atbsn.archs.restormer import TransformerBlock
from atbsn.ops.padding import pad_to_multiple, reflect_pad
from atbsn.ops.pixel_shuffle import pixel_shuffle_downsample, pixel_shuffle_upsample
from atbsn.ops.refinement import random_replacing_refinement, replacement_masks
from atbsn.ops.subsample import batch_to_space, space_to_batch
from atbsn.ops.surround import surrounded
from atbsn.registry import ARCHS
from atbsn.utils.types import Fraction, NonNegativeInt, PositiveInt

DIAMOND = 4
"""Pixels: taps (i, j) with |i| + |j| up to this are masked in training, as published."""

LOCAL_STRIDE, GLOBAL_STRIDE = 4, 5
"""Strides of PD of the two branches in training, as published."""
LOCAL_PAD, GLOBAL_PAD = 2, 0
"""Pixels of zeros around each tile of the two branches' mosaics in training, as published."""
LOCAL_TEST_PAD, GLOBAL_TEST_PAD = 2, 7
"""Pixels of reflection around each phase of the two branches while denoising, as published."""


@dataclass(frozen=True)
class Scales:
    """The strides of PD in a pass, and the factors by which the masked kernels are scaled.

    Attributes:
        local_stride, global_stride: strides of PD of the two branches.
        local_kernel, global_kernel: factors on the size of the two masked kernels. None: 1, and PD as a mosaic, as in
            training.
    """

    local_stride: int
    global_stride: int
    local_kernel: float | None
    global_kernel: float | None


Preset = Literal["sidd", "dnd", "training"]
TRAINING = Scales(LOCAL_STRIDE, GLOBAL_STRIDE, None, None)
"""The published settings of the training."""
TEST = {"sidd": Scales(3, 4, 0.72, 0.8), "dnd": Scales(2, 4, 0.5, 0.65), "training": TRAINING}
REFINE = {"sidd": Scales(2, 4, 0.46, 0.43), "dnd": Scales(2, 2, 0.4, 0.35), "training": TRAINING}
"""Published settings of the test pass and of the refinement. Noise with a shorter correlation allows smaller ones."""


class PatchMaskedConv2d(nn.Conv2d):
    """Convolution with a masked kernel that can be scaled, on a picture that is reflected beyond its border.

    Args:
        step: only every ``step``-th tap from the centre is used, and none of the diamond around it.
    """

    mask: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, step: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size)
        self.step = step
        distance = (torch.arange(kernel_size) - kernel_size // 2).abs()
        counts = (distance[:, None] + distance > DIAMOND) & (distance[:, None] % step + distance % step == 0)
        self.register_buffer("mask", counts.float(), persistent=False)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        kernel, dilation = self.kernel(scale)
        reach = kernel.shape[-1] // 2 * dilation
        return F.conv2d(reflect_pad(x, reach, reach, reach, reach), kernel, self.bias, dilation=dilation)

    def kernel(self, scale: float) -> tuple[Tensor, int]:
        """Compute the weight and the dilation of the ordinary convolution that does the same at this ``scale``.

        At scale r, tap (i, j) reads the picture at (r i, r j) by bilinear interpolation. These places lie between
        pixels in the same way everywhere, so each tap is distributed over the four pixels around its place beforehand.
        """
        weight = self.weight * self.mask
        if scale == 1:
            return weight[:, :, :: self.step, :: self.step], self.step
        reach = self.kernel_size[0] // 2
        taps = scale * torch.arange(-reach, reach + 1, device=weight.device, dtype=weight.dtype)
        reach = ceil(scale * reach)
        places = torch.arange(-reach, reach + 1, device=weight.device, dtype=weight.dtype)
        share = (1 - (taps - places[:, None]).abs()).clamp(min=0)
        return share @ weight @ share.T, 1


class LocalModule(nn.Module):
    """x + 1x1(ReLU(3x3 with dilation 2))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class GlobalBody(nn.Module):
    """Transformer blocks and a convolution, all with dilation 3."""

    def __init__(self, channels: int, num_blocks: int) -> None:
        super().__init__()
        self.encoder_level1 = nn.Sequential(*(TransformerBlock(channels, 2, dilation=3) for _ in range(num_blocks)))
        self.output = nn.Conv2d(channels, channels, 3, padding=3, dilation=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.encoder_level1(x))


class PatchMaskedBranch(nn.Module):
    """A patch-masked convolution, then PD of its result, and a body: (B, C, H, W) -> (B, w, H, W)."""

    def __init__(self, conv: PatchMaskedConv2d, body: nn.Module, pad_train: int, pad_test: int) -> None:
        super().__init__()
        self.pad_train, self.pad_test = pad_train, pad_test
        self.Maskconv = conv
        self.body = body

    def forward(self, x: Tensor, stride: int, scale: float | None = None) -> Tensor:
        """Without a ``scale``, as in training, PD is a mosaic of tiles with zeros around them. With one, every phase is
        a picture of its own with reflection around it."""
        height, width = x.shape[-2:]
        x = self.Maskconv(pad_to_multiple(x, stride), 1.0 if scale is None else scale)
        if scale is None:
            x = self.body(pixel_shuffle_downsample(x, stride, self.pad_train))
            x = pixel_shuffle_upsample(x, stride, self.pad_train)
        else:
            x = batch_to_space(surrounded(self.body, space_to_batch(x, stride), self.pad_test), stride)
        return x[..., :height, :width]


@ARCHS.register
class LGBPN(Network):
    """Patch-masked blind-spot network with a convolutional and a transformer branch.

    ``net(noisy)``: ``noisy`` (B, 3, H, W), RGB, float in [0, 255], any size -> the same shape, not clipped. This is the
    pass that it is trained with, L = mean |net(y) - y|. ``denoise`` scales the kernels down, so that the hole is
    smaller, and adds random-replacing refinement (R3).

    Inside a picture, an output of ``net(noisy)`` does not depend on the pixels with |dy| + |dx| <= 4, with two
    exceptions: through the attention maps, which are sums over all pixels (a relative gradient of 1e-5), and through
    the next tile of the mosaic (1e-13 at 120 x 120 pixels; never on the pixel itself). Within 5 pixels of the border it
    is not blind: reflection puts the pixel itself under a tap that is not masked. That concerns a tenth of the pixels
    of a 120 x 120 patch. Zeros there would mend it. The reflection is kept, because the published weights and figures
    were made with it.

    Args:
        width: channels of a branch; 128 has 4,558,879 parameters, 3,409,951 of them not masked.
        num_modules: dilated modules of the local branch.
        head_width: channels of the first layer.
        num_blocks: transformer blocks of the global branch.
    """

    blind_forward = True
    size_multiple = 20  # both strides of PD
    tile_overlap = 64
    sees_whole_tile = True

    def __init__(
        self,
        width: PositiveInt = 128,
        num_modules: PositiveInt = 9,
        head_width: PositiveInt = 24,
        num_blocks: PositiveInt = 6,
    ) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, head_width, 1), nn.ReLU())
        local = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, width, 1), nn.ReLU(),
            nn.Conv2d(width, width, 1), nn.ReLU(),
            *(LocalModule(width) for _ in range(num_modules)),
            nn.Conv2d(width, width, 1), nn.ReLU(),
        )  # fmt: skip
        self.branch1 = PatchMaskedBranch(
            PatchMaskedConv2d(head_width, width, 9, step=1), local, LOCAL_PAD, LOCAL_TEST_PAD
        )
        self.branch2 = PatchMaskedBranch(
            PatchMaskedConv2d(head_width, width, 21, step=2),
            GlobalBody(width, num_blocks),
            GLOBAL_PAD,
            GLOBAL_TEST_PAD,
        )
        self.tail = nn.Sequential(
            nn.Conv2d(2 * width, width, 1), nn.ReLU(),
            nn.Conv2d(width, width // 2, 1), nn.ReLU(),
            nn.Conv2d(width // 2, width // 2, 1), nn.ReLU(),
            nn.Conv2d(width // 2, 3, 1),
        )  # fmt: skip

    def forward(self, noisy: Tensor) -> Tensor:
        return self.forward_scaled(noisy, TRAINING)

    def forward_scaled(self, noisy: Tensor, scales: Scales) -> Tensor:
        """Compute a pass with PD and kernels of these ``scales``, (B, 3, H, W) -> the same shape."""
        x = self.head(noisy)
        return self._tail(
            self.branch1(x, scales.local_stride, scales.local_kernel),
            self.branch2(x, scales.global_stride, scales.global_kernel),
        )

    def denoise(
        self,
        noisy: Tensor,
        tiled: Tiled = untiled,
        *,
        preset: Preset = "sidd",
        refine: NonNegativeInt = 8,
        p: Fraction = 0.16,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], any size; the same shape, not clipped.

        The attention maps are sums over a tile, so tiles of other sizes give slightly different results.

        Args:
            preset: published strides and kernels for SIDD or for DND; ``training``: those of the training, with its
                large hole.
            refine: number of passes of R3; 0 for none.
            p: share of the values that are noisy in each of these passes.
        """
        once = tiled(lambda tile: self.forward_scaled(tile, TEST[preset]), noisy)
        if not refine:
            return once
        masks = replacement_masks(noisy, refine, p, seeded(generator, noisy))
        return self.refine(noisy, once, masks, tiled, preset)

    def refine(
        self,
        noisy: Tensor,
        estimate: Tensor,
        masks: Iterable[Tensor],
        tiled: Tiled = untiled,
        preset: Preset = "sidd",
    ) -> Tensor:
        """Refine ``estimate`` (B, 3, H, W) by R3 with ``masks`` of ``ops.refinement.replacement_masks``."""

        def one_pass(mixture: Tensor) -> Tensor:
            return tiled(lambda tile: self.forward_scaled(tile, REFINE[preset]), mixture)

        return random_replacing_refinement(one_pass, noisy, estimate, masks)

    @classmethod
    def example(cls) -> dict[str, Any]:
        return {"width": 4, "num_modules": 1, "head_width": 4, "num_blocks": 1}

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        blocks = "branch2.body.encoder_level1."
        if f"{blocks}0.attn.qkv.weight" not in shapes or "branch1.Maskconv.weight" not in shapes:
            return None
        width, head_width = shapes["branch1.Maskconv.weight"][:2]
        return {
            "width": width,
            "num_modules": sum(n.startswith("branch1.body.") and n.endswith("body.0.weight") for n in shapes),
            "head_width": head_width,
            "num_blocks": sum(n.startswith(blocks) and n.endswith("attn.qkv.weight") for n in shapes),
        }

    @classmethod
    def convert_state(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Convert the authors' state dict, which has the prefix ``bsn.``, masks, and copies of the masked kernels.

        None if it has our names already or is another network's.
        """
        return under_our_names(cls.recognise, state, left_out=("mask", "test_conv"))

    def _tail(self, near: Tensor, far: Tensor) -> Tensor:
        last = self.tail[-1]
        assert isinstance(last, nn.Conv2d)
        return in_full_precision(last, last.weight, self.tail[:-1](torch.cat((near, far), dim=1)))
