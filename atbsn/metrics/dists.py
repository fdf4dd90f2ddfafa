"""DISTS: structure and texture as a trained network sees them (Ding et al., IEEE TPAMI 2022, arXiv 2004.07728)."""

from functools import lru_cache
from typing import Any, ClassVar

from torch import Tensor

from atbsn.metrics.backbones import FeatureDistance, load_backbone
from atbsn.metrics.base import PEAK, Rounding, in_words
from atbsn.registry import METRICS


@METRICS.register
class DISTS(FeatureDistance):
    """Deep image structure and texture similarity (Ding et al., arXiv 2004.07728), of torchmetrics; extra ``[dists]``.

    0 for equal pictures; lower is better. It forgives texture that is another one of the same kind, as LPIPS does not.
    At the size of the picture, without the authors' shrinking to 256 pixels. From 32 x 32 pixels on.

    Args:
        round: round both half up, floor(x + 0.5), or ``down``.
        clip: clip both to [0, 255].
    """

    name: ClassVar[str] = "dists"

    def __init__(self, round: Rounding = True, clip: bool = True) -> None:
        super().__init__(round, clip)
        _network()  # what is missing is said now, not after hours of training

    @property
    def protocol(self) -> str:
        return f"dists (VGG16, full size, {in_words(self.round, self.clip)})"

    def distance(self, image: Tensor, reference: Tensor) -> Tensor:
        return _network()(image / PEAK, reference / PEAK)


@lru_cache
def _network() -> Any:
    def load() -> Any:
        from torchmetrics.functional.image.dists import DISTSNetwork  # its class of a metric makes one a picture

        return DISTSNetwork().eval()

    return load_backbone("dists", "torchmetrics", "vgg16", load)
