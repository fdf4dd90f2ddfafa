"""TM-BSN: a blind-spot network whose hole is a diamond, as wide as it is asked for (CVPR 2026)."""

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
"""Pixels of reflection around a picture to denoise."""


class TriangularConv2d(nn.Conv2d):
    """3x3 convolution, zero padding 1, of which only the taps on and above the diagonal count.

    Its output sees the offsets (dy, dx) with dy <= dx, and so does any chain of them.
    """

    mask: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)
        self.register_buffer("mask", torch.ones(3, 3).triu(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * self.mask, self.bias)


class ResidualBlock(nn.Module):
    """x + conv(ReLU(conv(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = TriangularConv2d(channels, channels)
        self.conv2 = TriangularConv2d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x).relu_()).add_(x)


class ResidualGroup(nn.Module):
    """x + conv(a chain of residual blocks)."""

    def __init__(self, channels: int, num_blocks: int) -> None:
        super().__init__()
        self.res_blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(num_blocks)))
        self.conv_out = TriangularConv2d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.res_blocks(x)).add_(x)


class TriangularNet(nn.Module):
    """(B, 3, H, W) -> (B, channels, H, W): groups of residual blocks between two convolutions, any size."""

    def __init__(self, channels: int, num_blocks: int) -> None:
        super().__init__()
        self.conv1 = TriangularConv2d(3, channels)
        self.RIR_blocks = nn.Sequential(*(ResidualGroup(channels, num_blocks) for _ in range(num_blocks)))
        self.conv2 = TriangularConv2d(channels, channels)

    def forward(self, image: Tensor) -> Tensor:
        first = self.conv1(image)
        return self.conv2(self.RIR_blocks(first)).add_(first)


@ARCHS.register
class TMBSN(BlindSpotNetwork):
    """Blind-spot network with an adjustable diamond-shaped hole.

    ``net(noisy, k)``: ``noisy`` (B, 3, H, W), RGB, float in [0, 255], any size -> the same shape, not clipped. Here k
    is the published s: an output pixel sees exactly the pixels with ``|dy| + |dx| >= k``, whatever the size; with 0 it
    sees all, with 5 it misses 41.

    A network of triangular convolutions looks at the picture in four rotations. Shifted down and shifted left by k,
    its features see the half-plane beyond one side of the diamond; all eight are mixed by 1x1 convolutions. ``nin_A``
    is linear and 1x1, so it is applied before the shifts, once for every k, to two slices at a time that move the
    same way.

    Args:
        width: feature channels; 48 has 1,350,339 parameters.
        num_blocks: groups of residual blocks, and blocks in a group.
    """

    family = (2, 3, 4, 5, 6)
    tile_overlap = 64  # the receptive radius is 57 + k, but little comes from there

    def __init__(self, width: PositiveInt = 48, num_blocks: PositiveInt = 5) -> None:
        super().__init__()
        self.unet = TriangularNet(width, num_blocks)
        self.nin_A = nn.Conv2d(8 * width, 8 * width, 1)
        self.nin_B = nn.Conv2d(8 * width, 2 * width, 1)
        self.nin_C = nn.Conv2d(2 * width, 3, 1)

    def forward(self, noisy: Tensor, k: int = 4) -> Tensor:
        """Denoise with a hole of radius ``k``.

        Raises:
            UserError: ``k`` is no whole number from 0 to 1023.
        """
        self.check_hole(k)
        parts = shift_outwards(self._features(noisy, margin=k), k, margin=k)
        return self._head(F.conv2d(concatenate_channels(parts), torch.cat(self._slices(), dim=1), self.nin_A.bias))

    def forward_teachers(self, noisy: Tensor, ks: Sequence[int] = (2, 3, 4, 5, 6)) -> Tensor:
        """Denoise with every hole of ``ks`` in one feature pass: (B, 3, H, W) -> (K, B, 3, H, W).

        Raises:
            UserError: a ``k`` is no whole number from 0 to 1023, or ``ks`` is empty.
        """
        self.check_holes(ks)
        margin = max(ks)
        parts = self._features(noisy, margin)
        return in_blocks(parts, margin, lambda block: self._outputs(block, ks, margin))

    def denoise(self, noisy: Tensor, tiled: Tiled = untiled, *, k: Hole = 4) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], reflected by 16 pixels around; the same shape, not clipped.

        Args:
            k: radius of the hole; 4 is the published one for SIDD. ``mean``: the mean over ``family``.
        """
        return surrounded(lambda x: tiled(lambda tile: self.at(tile, k), x), noisy, PADDING)

    def denoise_family(self, noisy: Tensor, ks: Sequence[int], tiled: Tiled = untiled, **how: Any) -> Tensor:
        """As ``denoise``, for every hole of ``ks``: (K, B, 3, H, W)."""
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
        return max(1, 2 * k)  # what is moved in from beyond the border is nothing

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
        """The authors' state dict, which stores masks, as ours; None if it is ours already or another network's."""
        return under_our_names(cls.recognise, state)

    def _features(self, noisy: Tensor, margin: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pairs of the four rotations' features, upright, by where they go, with a margin of zeros where they see.

        (B, 2w, margin + H, W) of what moves down: the upright features, and those of the quarter turn, whose left
        is down; and so on to the right, up and to the left.
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
        """The outputs for all ``ks`` of pairs that have a margin: (K, B, 3, H, W)."""
        biases = (self.nin_A.bias, None, None, None)
        mixed = [F.conv2d(*each) for each in zip(parts, self._slices(), biases, strict=True)]
        outputs = []
        for k in ks:
            down, right, up, left = shift_outwards(mixed, k, margin)
            outputs.append(self._head((down + right).add_(up).add_(left)))
        return torch.stack(outputs)

    def _slices(self) -> list[Tensor]:
        """The weight of ``nin_A`` in the order of the pairs of ``_features``: four of (8w, 2w, 1, 1)."""
        down, left = self.nin_A.weight.unflatten(1, (4, 2, -1)).unbind(2)  # of every rotation, (8w, 4, w, 1, 1)
        return [torch.cat((down[:, turn], left[:, (turn + 1) % 4]), dim=1) for turn in range(4)]

    def _head(self, mixed: Tensor) -> Tensor:
        """Everything after ``nin_A``, whose output it overwrites."""
        x = self.nin_B(mixed.relu_()).relu_()
        return in_full_precision(self.nin_C, self.nin_C.weight, x) * WHITE
