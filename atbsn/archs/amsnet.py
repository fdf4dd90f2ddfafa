"""AMSNet: an ordinary network that is blind because pixels are hidden from it (Liao et al., ECCV 2024)."""

from typing import Any

import torch
from torch import Tensor

from atbsn.archs.apbsn import Stride
from atbsn.archs.base import Network, Tiled, seeded, untiled
from atbsn.archs.restormer import Restormer
from atbsn.ops.padding import pad_to_multiple
from atbsn.ops.subsample import batch_to_space, space_to_batch
from atbsn.registry import ARCHS
from atbsn.utils.errors import UserError
from atbsn.utils.types import PositiveInt

FOUR = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]
"""A number for each of the four levels."""


@ARCHS.register
class AMSNet(Network):
    """A Restormer that predicts the pixels that are hidden from it (arXiv 2407.06514).

    ``net(shown)``: ``shown`` (B, 3, H, W), RGB, float in [0, 255], any size (padded to a multiple of 8 by reflection),
    with zeros in all channels of the hidden pixels -> the same shape, not clipped. The output is meant only for hidden
    pixels. ``denoise`` hides a random half of the pixels of each phase of a picture, then the other half, and takes
    each pixel from the pass that hid it. So no output depends on its own pixel, whatever the attention does.

    The published Restormer adds its input to its output. The input is 0 at hidden pixels, so this is left out here.

    Args:
        width: channels of the first level, an even number. 48 has 26.1 million parameters.
        num_blocks: blocks of the four levels, on the way down and up.
        num_refinement: blocks after the last level.
        channels: number of channels of the pictures.
    """

    size_multiple = 8
    tile_overlap = 64
    sees_whole_tile = True

    def __init__(
        self,
        width: PositiveInt = 48,
        num_blocks: FOUR = (4, 6, 6, 8),
        num_refinement: PositiveInt = 4,
        channels: PositiveInt = 3,
    ) -> None:
        super().__init__()
        if width % 2:
            raise UserError(f"width: {width} is odd, and halved at every pooling; use {width + 1}")
        self.channels = channels
        self.body = Restormer(width, num_blocks, num_refinement, channels)

    def forward(self, shown: Tensor) -> Tensor:
        height, width = shown.shape[-2:]
        return self.body(pad_to_multiple(shown, self.size_multiple))[..., :height, :width]

    def in_halves(self, noisy: Tensor, hidden: Tensor, tiled: Tiled = untiled) -> Tensor:
        """Take every pixel of ``noisy`` (B, 3, H, W) from a pass that did not see it; the same shape.

        Args:
            hidden: (B, 1, H, W) bool: the pixels that the first pass hides. The second pass hides the others.
        """
        first, second = (tiled(self, noisy.masked_fill(half, 0)) for half in (hidden, ~hidden))
        return torch.where(hidden, first, second)

    def denoise(
        self,
        noisy: Tensor,
        tiled: Tiled = untiled,
        *,
        pd: Stride = 2,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], any size; the same shape, not clipped.

        The attention sums over a tile, so tiles of other sizes give slightly other results.

        Args:
            pd: stride of the sub-images.
        """
        phases = space_to_batch(pad_to_multiple(noisy, pd), pd)
        generator = seeded(generator, noisy)
        hidden = torch.rand(phases[:, :1].shape, generator=generator, device=generator.device) < 0.5
        clean = self.in_halves(phases, hidden.to(noisy.device), tiled)
        return batch_to_space(clean, pd)[..., : noisy.shape[-2], : noisy.shape[-1]]

    @classmethod
    def example(cls) -> dict[str, Any]:
        return {"width": 4, "num_blocks": [1, 1, 1, 1], "num_refinement": 1}

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        if "body.patch_embed.proj.weight" not in shapes or "body.latent.0.attn.qkv.weight" not in shapes:
            return None

        def blocks(part: str) -> int:
            return sum(name.startswith(f"body.{part}.") and name.endswith(".norm1.body.weight") for name in shapes)

        width, channels = shapes["body.patch_embed.proj.weight"][:2]
        return {
            "width": width,
            "num_blocks": [*(blocks(f"encoder_level{level}") for level in (1, 2, 3)), blocks("latent")],
            "num_refinement": blocks("refinement"),
            "channels": channels,
        }

    @classmethod
    def convert_state(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Convert the authors' state dict, whose Restormer is below ``dn.branches.0.``; None if it is no such dict."""
        names = {name: name.rpartition("dn.branches.0.") for name in state}
        if not all(found for _, found, _ in names.values()):
            return None
        own = {f"body.{names[name][2]}": tensor for name, tensor in state.items()}
        return None if cls.recognise({name: tuple(tensor.shape) for name, tensor in own.items()}) is None else own
