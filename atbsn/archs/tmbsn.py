"""TM-BSN (CVPR 2026): a blind-spot network with a diamond-shaped hole of any size."""

from collections.abc import Sequence
from reprlib import repr as shorten
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atbsn.archs.base import BlindSpotNetwork, Tiled, in_full_precision, untiled
from atbsn.archs.foreign import under_our_names
from atbsn.ops.blind_spot import (
    MAX_BLIND_SPOT,
    concatenate_channels,
    in_blocks,
    rotate,
    shift_outwards,
    unrotate,
)
from atbsn.ops.constant import WHITE
from atbsn.ops.surround import surrounded
from atbsn.registry import ARCHS
from atbsn.utils.errors import UserError
from atbsn.utils.types import Hole, PositiveInt

PADDING = 16
"""Pixels of reflection around a picture that is denoised, as published."""


class TriangularConv2d(nn.Conv2d):
    """3x3 convolution with zero padding 1 that uses only the taps on and above the diagonal.

    Its output sees the offsets (dy, dx) with dy <= dx, and so does that of any chain of such convolutions.
    """

    mask: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)
        self.register_buffer("mask", torch.ones(3, 3).triu(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * self.mask, self.bias)


class TriangularBlock(nn.Module):
    """x + conv(ReLU(conv(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = TriangularConv2d(channels, channels)
        self.conv2 = TriangularConv2d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x).relu_()).add_(x)


class TriangularGroup(nn.Module):
    """x + conv(a chain of blocks)."""

    def __init__(self, channels: int, num_blocks: int) -> None:
        super().__init__()
        self.res_blocks = nn.Sequential(*(TriangularBlock(channels) for _ in range(num_blocks)))
        self.conv_out = TriangularConv2d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.res_blocks(x)).add_(x)


class TriangularNet(nn.Module):
    """(B, 3, H, W) -> (B, channels, H, W): groups of residual blocks between two convolutions, any size."""

    def __init__(self, channels: int, num_blocks: int) -> None:
        super().__init__()
        self.conv1 = TriangularConv2d(3, channels)
        self.RIR_blocks = nn.Sequential(*(TriangularGroup(channels, num_blocks) for _ in range(num_blocks)))
        self.conv2 = TriangularConv2d(channels, channels)

    def forward(self, image: Tensor) -> Tensor:
        first = self.conv1(image)
        return self.conv2(self.RIR_blocks(first)).add_(first)


@ARCHS.register
class TMBSN(BlindSpotNetwork):
    """Blind-spot network with an adjustable diamond-shaped hole.

    ``net(noisy, k)``: ``noisy`` (B, 3, H, W), RGB, float in [0, 255], any size -> the same shape, not clipped. Here k
    is the published s: an output pixel sees exactly the pixels with ``|dy| + |dx| >= k``, whatever the size of the
    picture. With k = 0 it sees all pixels, with k = 5 it misses 41.

    A network of triangular convolutions sees the picture in four rotations. Its features are shifted once down and once
    left by k, so that they see the half-plane beyond one side of the diamond. All eight are mixed by 1x1 convolutions.
    ``nin_A`` is linear and 1x1, so it is applied before the shifts and serves every k. It is applied to pairs of
    features that are shifted in the same direction.

    Args:
        width: feature channels; 48 has 1,350,339 parameters.
        num_blocks: groups of residual blocks, and blocks in a group.
    """

    family = (2, 3, 4, 5, 6)
    tile_overlap = 64  # less than the receptive radius of 57 + k needs, but the outer pixels have little weight

    def __init__(self, width: PositiveInt = 48, num_blocks: PositiveInt = 5) -> None:
        super().__init__()
        self.unet = TriangularNet(width, num_blocks)
        self.nin_A = nn.Conv2d(8 * width, 8 * width, 1)
        self.nin_B = nn.Conv2d(8 * width, 2 * width, 1)
        self.nin_C = nn.Conv2d(2 * width, 3, 1)

    def forward(self, noisy: Tensor, k: int = 4) -> Tensor:
        """Denoise with a hole of radius ``k``.

        Raises:
            UserError: ``k`` is not a whole number from 0 to 1023.
        """
        self.check_hole(k)
        parts = shift_outwards(self._features(noisy, margin=k), k, margin=k)
        return self._head(F.conv2d(concatenate_channels(parts), torch.cat(self._slices(), dim=1), self.nin_A.bias))

    def forward_teachers(self, noisy: Tensor, ks: Sequence[int] = (2, 3, 4, 5, 6)) -> Tensor:
        """Denoise with every hole of ``ks`` in one feature pass: (B, 3, H, W) -> (K, B, 3, H, W).

        Raises:
            UserError: a ``k`` is not a whole number from 0 to 1023, or ``ks`` is empty.
        """
        self.check_holes(ks)
        margin = max(ks)
        parts = self._features(noisy, margin)
        return in_blocks(parts, margin, lambda block: self._outputs(block, ks, margin))

    def denoise(self, noisy: Tensor, tiled: Tiled = untiled, *, k: Hole = 4) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], with 16 pixels of reflection; the same shape, not clipped.

        Args:
            k: radius of the hole; 4 is the published one for SIDD. ``mean``: the mean over ``family``.
        """
        return surrounded(lambda x: tiled(lambda tile: self.at(tile, k), x), noisy, PADDING)

    def denoise_family(self, noisy: Tensor, ks: Sequence[int], tiled: Tiled = untiled, **how: Any) -> Tensor:
        """Denoise as ``denoise`` does, with every hole of ``ks``: (K, B, 3, H, W)."""
        return surrounded(lambda x: tiled(lambda tile: self.forward_teachers(tile, ks), x), noisy, PADDING)

    @classmethod
    def check_hole(cls, k: int) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k <= MAX_BLIND_SPOT:
            raise UserError(
                f"k = {shorten(k)}: the radius of the diamond is a whole number from 0 (not blind) to "
                f"{MAX_BLIND_SPOT}; use 5 to train, 2 to 6 to denoise"
            )

    @classmethod
    def smallest_patch(cls, k: int) -> int:
        return max(1, 2 * k)  # beyond the border there is nothing to see

    @classmethod
    def example(cls) -> dict[str, Any]:
        return {"width": 4, "num_blocks": 1}

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        if "nin_A.weight" not in shapes or "unet.RIR_blocks.0.conv_out.weight" not in shapes:
            return None
        num_blocks = 0
        while f"unet.RIR_blocks.{num_blocks}.conv_out.weight" in shapes:
            num_blocks += 1
        return {"width": shapes["unet.conv1.weight"][0], "num_blocks": num_blocks}

    @classmethod
    def convert_state(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Convert the authors' state dict, which has masks; None if it has our names already or is another's."""
        return under_our_names(cls.recognise, state)

    def _features(self, noisy: Tensor, margin: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the features of the four rotations, upright, in pairs that are shifted in the same direction.

        The first pair, (B, 2w, margin + H, W), is shifted down: the features of the upright picture, and those of the
        quarter turn, whose left is down. The next pairs are shifted right, up and left. Each has a margin of zeros on
        its seeing side.
        """
        turns = rotate(noisy / WHITE)
        if noisy.shape[-2] == noisy.shape[-1]:
            parts = unrotate(self.unet(torch.cat(turns)).chunk(4))
        else:
            upright, half = self.unet(torch.cat(turns[0::2])).chunk(2)
            quarter, three_quarters = self.unet(torch.cat(turns[1::2])).chunk(2)
            parts = unrotate((upright, quarter, half, three_quarters))
        upright, quarter, half, three_quarters = parts
        return (
            F.pad(concatenate_channels((upright, quarter)), (0, 0, margin, 0)),
            F.pad(concatenate_channels((quarter, half)), (margin, 0, 0, 0)),
            F.pad(concatenate_channels((half, three_quarters)), (0, 0, 0, margin)),
            F.pad(concatenate_channels((three_quarters, upright)), (0, margin, 0, 0)),
        )

    def _outputs(self, parts: Sequence[Tensor], ks: Sequence[int], margin: int) -> Tensor:
        """Compute the outputs for all ``ks`` from pairs that have a margin: (K, B, 3, H, W)."""
        biases = (self.nin_A.bias, None, None, None)
        mixed = [F.conv2d(*each) for each in zip(parts, self._slices(), biases, strict=True)]
        outputs = []
        for k in ks:
            down, right, up, left = shift_outwards(mixed, k, margin)
            outputs.append(self._head((down + right).add_(up).add_(left)))
        return torch.stack(outputs)

    def _slices(self) -> list[Tensor]:
        """Split the weight of ``nin_A`` in the order of the pairs of ``_features``: four of (8w, 2w, 1, 1)."""
        down, left = self.nin_A.weight.unflatten(1, (4, 2, -1)).unbind(2)  # for every rotation, (8w, 4, w, 1, 1)
        return [torch.cat((down[:, turn], left[:, (turn + 1) % 4]), dim=1) for turn in range(4)]

    def _head(self, mixed: Tensor) -> Tensor:
        """Compute everything after ``nin_A``, whose output ``mixed`` is overwritten."""
        x = self.nin_B(mixed.relu_()).relu_()
        return in_full_precision(self.nin_C, self.nin_C.weight, x) * WHITE
