"""APR-RD's teacher (AAAI 2025): AT-BSN's network, computing on [0, 1]."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from atbsn.archs.atbsn import ATBSN
from atbsn.archs.base import BlindSpotNetwork, Tiled, untiled
from atbsn.archs.foreign import under_our_names
from atbsn.ops.constant import WHITE
from atbsn.ops.surround import surrounded
from atbsn.registry import ARCHS
from atbsn.utils.types import Hole, PositiveInt

PADDING = 16
"""Pixels of reflection around a picture that is denoised, as published."""


@ARCHS.register
class APRBSN(BlindSpotNetwork):
    """``ATBSN`` that computes on [0, 1], as APR-RD trains it. Its biases, and how fast they learn, have that scale.

    ``net(noisy, k)``: ``noisy`` (B, 3, H, W), RGB, float in [0, 255], any size -> the same shape, not clipped. The
    published shift s is k = 2 s - 1.

    The authors' files have the names and shapes of AT-BSN's, so they do not tell which network they are of
    (``lookalikes``).

    Args:
        width: channels of the U-Net; 48 has 1,268,547 parameters.
        channels: number of channels of the pictures.
    """

    family = (0, 1, 3, 5, 7, 9)
    size_multiple = 32

    def __init__(self, width: PositiveInt = 48, channels: PositiveInt = 3) -> None:
        super().__init__()
        self.channels = channels
        self.bsn = ATBSN(width, channels=channels)

    def forward(self, noisy: Tensor, k: int = 1) -> Tensor:
        return self.bsn(noisy / WHITE, k) * WHITE

    def forward_teachers(self, noisy: Tensor, ks: Sequence[int] = (0, 1, 3, 5, 7, 9)) -> Tensor:
        return self.bsn.forward_teachers(noisy / WHITE, ks) * WHITE

    def denoise(self, noisy: Tensor, tiled: Tiled = untiled, *, k: Hole = 1) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], with 16 pixels of reflection; the same shape, not clipped.

        Args:
            k: the blind spot, odd, or 0 for none; 1 is the published one. ``mean``: the mean over ``family``.
        """
        return surrounded(lambda x: tiled(lambda tile: self.at(tile, k), x), noisy, PADDING)

    def denoise_family(self, noisy: Tensor, ks: Sequence[int], tiled: Tiled = untiled, **how: Any) -> Tensor:
        """Denoise as ``denoise`` does, with every blind spot of ``ks``: (K, B, 3, H, W)."""
        return surrounded(lambda x: tiled(lambda tile: self.forward_teachers(tile, ks), x), noisy, PADDING)

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        return ATBSN.recognise(
            {name.removeprefix("bsn."): shape for name, shape in shapes.items() if name.startswith("bsn.")}
        )

    @classmethod
    def convert_state(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Convert the authors' state dict to our names; None if it has them already or is another network's."""
        return under_our_names(cls.recognise, state, own="bsn.", foreign=("",))
