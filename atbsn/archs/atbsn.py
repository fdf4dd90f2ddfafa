"""AT-BSN: a blind-spot network whose blind spot k is tunable (Chen et al., CVPR 2024, arXiv 2303.16783)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import MinLen
from torch import Tensor, nn
from torch.nn import functional as F

from atbsn.archs.base import BlindSpotNetwork, in_full_precision
from atbsn.archs.sass import atbsn_state
from atbsn.archs.unet import SLOPE, UNetBody, kaiming_init
from atbsn.ops import ways
from atbsn.ops.blind_spot import (
    blind_spot_shift,
    concatenate_channels,
    in_blocks,
    rotate,
    shift_outwards,
    sums_of_shifts,
    unrotate,
)
from atbsn.ops.convolution import Conv2d
from atbsn.ops.padding import pad_to_multiple
from atbsn.registry import ARCHS
from atbsn.utils.types import NonNegativeInt, PositiveInt


@ARCHS.register
class ATBSN(BlindSpotNetwork):
    """Blind-spot network with an adjustable blind spot.

    ``net(noisy, k=3)``: ``noisy`` (B, 3, H, W), RGB, float in [0, 255], any size -> the same shape, not clipped.
    A half-plane U-Net sees the picture in four rotations. Its features are shifted by s = (k + 1) / 2, turned upright,
    concatenated and mixed by 1x1 convolutions. No output pixel depends on the k x k square around it. This holds
    exactly if H and W are multiples of 32, since then nothing is padded.

    Args:
        width: channels w of the U-Net; 48 has 1,268,547 parameters.
        mean: grey value that is subtracted from the input and added to the output, so that zero padding has this grey.
            0 is the published network; 127.5 learns faster in short trainings. ``picture`` subtracts the mean of each
            channel over the patch, tile or picture. Then colour and brightness need not be learned, since the output
            moves with the input, which helps short trainings most. Strictly, every pixel then sees itself, as one of
            the 16,384 of a 128 x 128 patch.
        family: the blind spots that ``k="mean"`` averages over. A network that is trained with a small blind spot gives
            poor results with much larger ones.
        channels: number of channels of the pictures.
    """

    size_multiple = 32

    def __init__(
        self,
        width: PositiveInt = 48,
        mean: float | Literal["picture"] = 0.0,
        family: Annotated[Sequence[NonNegativeInt], MinLen(1)] = BlindSpotNetwork.family,
        channels: PositiveInt = 3,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.check_holes(family)
        self.family = tuple(family)
        self.mean = mean
        self.sees_whole_tile = mean == "picture"
        self.unet = UNetBody(width, out_channels=2 * width, half_plane=True, in_channels=channels)
        self.nin_A = Conv2d(8 * width, 8 * width, 1)
        self.nin_B = Conv2d(8 * width, 2 * width, 1)
        self.nin_C = Conv2d(2 * width, channels, 1)
        kaiming_init(self)
        nn.init.kaiming_normal_(self.nin_C.weight, nonlinearity="linear")

    def forward(self, noisy: Tensor, k: int = 3) -> Tensor:
        """Denoise with blind spot ``k``.

        Raises:
            UserError: ``k`` is negative or even and not 0.
        """
        shift = blind_spot_shift(k)
        offset = self._offset(noisy)
        parts = shift_outwards(self._features(noisy - offset, margin=shift), shift, margin=shift)
        return _crop(self._head(self.nin_A(concatenate_channels(parts))), noisy) + offset

    def forward_teachers(self, noisy: Tensor, ks: Sequence[int] = (0, 1, 3, 5, 7, 9, 11)) -> Tensor:
        """Denoise with every blind spot of ``ks`` in one feature pass: (B, 3, H, W) -> (K, B, 3, H, W).

        ``nin_A`` is linear and 1x1, so it commutes with shifts and rotations. Its four slices are applied once, and
        each k costs only a shift, a sum of four and the small layers. With width 48 and seven k that is 1.48 million
        multiply-adds a pixel.

        Raises:
            UserError: a ``k`` is negative or even and not 0, or ``ks`` is empty.
        """
        self.check_holes(ks)
        shifts = [blind_spot_shift(k) for k in ks]
        margin = max(shifts)
        offset = self._offset(noisy)
        parts = self._features(noisy - offset, margin)
        outputs = in_blocks(parts, margin, lambda block: self._teachers(block, shifts, margin), len(shifts))
        return _crop(outputs, noisy) + offset

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        if "nin_A.weight" not in shapes or "unet.intro.conv.weight" not in shapes:
            return None
        width, channels, *_ = shapes["unet.intro.conv.weight"]
        return {"width": width, "channels": channels}

    @classmethod
    def lookalikes(cls, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        if arguments.get("mean", 0.0) != 0:
            return []
        return [{"type": "APRBSN", **{name: arguments[name] for name in ("width", "channels") if name in arguments}}]

    @classmethod
    def convert_state(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Convert the blind-spot network of SASS's authors, which is meant for ``k`` = 9; None if it is another."""
        return atbsn_state(state)

    def _features(self, noisy: Tensor, margin: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the U-Net's features of the four rotations, upright, each with a margin of zeros on its seeing side.

        They are (B, 2w, margin + H', W') for what lies above, and so on; H' and W' are padded to multiples of 32.
        """
        image = pad_to_multiple(noisy, self.size_multiple)
        turns = rotate(image)
        if image.shape[-2] == image.shape[-1]:
            return unrotate(self.unet(torch.cat(turns), margin).chunk(4))
        upright, half = self.unet(torch.cat(turns[0::2]), margin).chunk(2)
        quarter, three_quarters = self.unet(torch.cat(turns[1::2]), margin).chunk(2)
        return unrotate((upright, quarter, half, three_quarters))

    def _teachers(self, parts: Sequence[Tensor], shifts: Sequence[int], margin: int) -> Tensor:
        """Compute the outputs for all ``shifts`` from features that have a margin: (K, B, 3, H, W)."""
        slices = self.nin_A.weight.chunk(4, dim=1)
        biases = (self.nin_A.bias, None, None, None)
        mixed = [F.conv2d(*each) for each in zip(parts, slices, biases, strict=True)]
        outputs = [
            self._head(sums_of_shifts(mixed, some, margin)).unflatten(0, (len(some), -1))
            for some in _together(shifts, mixed[0].device)
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _head(self, mixed: Tensor) -> Tensor:
        """Compute everything after ``nin_A``, whose output ``mixed`` is overwritten."""
        x = F.leaky_relu(mixed, SLOPE, inplace=True)
        x = F.leaky_relu(self.nin_B(x), SLOPE, inplace=True)
        return in_full_precision(self.nin_C, self.nin_C.weight, x)

    def _offset(self, noisy: Tensor) -> Tensor | float:
        """What is subtracted from the input and added to the output: a number, or (B, 3, 1, 1)."""
        return noisy.mean(dim=(2, 3), keepdim=True) if self.mean == "picture" else float(self.mean)


def _together(shifts: Sequence[int], device: torch.device) -> list[Sequence[int]]:
    """Group ``shifts`` whose heads are computed as one batch: all on a GPU, each alone on a CPU, to fit its cache."""
    return [shifts] if ways.like_a_gpu(device) else [[shift] for shift in shifts]


def _crop(output: Tensor, noisy: Tensor) -> Tensor:
    """Cut off the padding of ``noisy``."""
    return output[..., : noisy.shape[-2], : noisy.shape[-1]]
