"""NSP (neighbouring sub-pixels, CVPR 2026): AP-BSN's network with an output of twice the size."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from atbsn.archs.base import Network, Tiled, untiled
from atbsn.archs.dbsn import RADIUS, DBSNl, NumModules
from atbsn.ops.constant import WHITE
from atbsn.ops.padding import pad_to_multiple
from atbsn.ops.subsample import space_to_batch
from atbsn.registry import ARCHS
from atbsn.utils.types import PositiveInt


@ARCHS.register
class NSP(DBSNl, Network):
    """DBSNl with GELU and a tail that makes 2 x 2 pixels of each pixel.

    ``net(noisy)``: (B, 3, H, W), RGB, float in [0, 255], any size -> (B, 3, 2H, 2W), not clipped. A sub-image predicts
    a picture of twice its size. ``denoise`` passes the four phases of a picture through the network and averages the
    four predictions. There is no refinement.

    Args:
        width: channels of a branch, an even number; 128 is the published one.
        num_modules: dilated modules of each branch.
    """

    output_scale = 2
    tile_overlap = 2 * RADIUS + 18

    def __init__(self, width: PositiveInt = 128, num_modules: NumModules = 9) -> None:
        quarter = max(1, width // 2)
        tail = nn.Sequential(
            nn.Conv2d(2 * width, 2 * width, 1), nn.GELU(),
            nn.Conv2d(2 * width, 4 * quarter, 1), nn.GELU(),
            nn.PixelShuffle(2),
            nn.Conv2d(quarter, quarter, 1), nn.GELU(),
            nn.Conv2d(quarter, 3, 1),
        )  # fmt: skip
        super().__init__(width, num_modules, nn.GELU, tail)

    def forward(self, noisy: Tensor) -> Tensor:
        return super().forward(noisy / WHITE) * WHITE

    def denoise(self, noisy: Tensor, tiled: Tiled = untiled) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], any size; the same shape, not clipped.

        The network is applied to tiles of the four phases. Its radius is 29 pixels, less than the context of a tile, so
        tiles change nothing.
        """
        phases = space_to_batch(pad_to_multiple(noisy, 2), 2)
        predicted = tiled(lambda tile: F.pixel_unshuffle(self(tile), 2), phases)
        pictures = F.pixel_shuffle(predicted, 2).unflatten(0, (4, -1)).mean(dim=0)
        return pictures[..., : noisy.shape[-2], : noisy.shape[-1]]

    @classmethod
    def example(cls) -> dict[str, Any]:
        return {"width": 4, "num_modules": 1}

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        if "branch1.body.0.weight" not in shapes or "tail.7.weight" not in shapes:
            return None
        found = sum(name.startswith("branch1.body.") and name.endswith(".body.0.weight") for name in shapes)
        return {"width": shapes["head.0.weight"][0], "num_modules": found - 1}  # one of them is branch1.body.0.weight
