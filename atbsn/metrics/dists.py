"""DISTS: similarity of structure and texture by a trained network (Ding et al., IEEE TPAMI 2022, arXiv 2004.07728)."""

from functools import lru_cache
from typing import Any, ClassVar

from torch import Tensor

from atbsn.metrics.backbones import FeatureDistance, load_backbone
from atbsn.metrics.base import PEAK, Rounding, in_words
from atbsn.registry import METRICS


@METRICS.register
class DISTS(FeatureDistance):
    """Deep image structure and texture similarity (Ding et al., arXiv 2004.07728), by torchmetrics; extra ``[dists]``.

    It is 0 for equal pictures; lower is better. Unlike LPIPS, it hardly counts a texture that is replaced by another of
    the same kind. Pictures are compared at their full size, while the authors shrink them to 256 pixels. They have at
    least 32 x 32 pixels.

    Args:
        round: round both half up, floor(x + 0.5), or ``down``.
        clip: clip both to [0, 255].
    """

    name: ClassVar[str] = "dists"

    def __init__(self, round: Rounding = True, clip: bool = True) -> None:
        super().__init__(round, clip)
        _network()  # so that a missing package or file is reported now, not after hours of training

    @property
    def protocol(self) -> str:
        return f"dists (VGG16, full size, {in_words(round=self.round, clip=self.clip)})"

    def distance(self, image: Tensor, reference: Tensor) -> Tensor:
        return _network()(image / PEAK, reference / PEAK)


@lru_cache
def _network() -> Any:
    def load() -> Any:
        from torchmetrics.functional.image.dists import DISTSNetwork  # its metric builds a network for each picture

        return DISTSNetwork().eval()

    return load_backbone("dists", "torchmetrics", "vgg16", load)
