"""LPIPS: the distance of pictures in a trained network's features (Zhang et al., CVPR 2018, arXiv 1801.03924)."""

from functools import lru_cache
from typing import Any, ClassVar, Literal

from torch import Tensor

from atbsn.metrics.backbones import FeatureDistance, load_backbone
from atbsn.metrics.base import Rounding, in_words
from atbsn.registry import METRICS

Backbone = Literal["alex", "vgg", "squeeze"]


@METRICS.register
class LPIPS(FeatureDistance):
    """Learned perceptual distance (Zhang et al., CVPR 2018, arXiv 1801.03924), v0.1; needs the extra ``[lpips]``.

    It is 0 for equal pictures; lower is better. Pictures have at least 32 x 32 pixels.

    Args:
        net: the network whose features are compared: ``alex``, as in most papers, ``vgg`` or ``squeeze``.
        round: round both half up, floor(x + 0.5), or ``down``.
        clip: clip both to [0, 255].
    """

    name: ClassVar[str] = "lpips"

    def __init__(self, net: Backbone = "alex", round: Rounding = True, clip: bool = True) -> None:
        super().__init__(round, clip)
        self.net = net
        _network(net)  # so that a missing package or file is reported now, not after hours of training

    @property
    def protocol(self) -> str:
        return f"lpips (v0.1, {self.net}, {in_words(round=self.round, clip=self.clip)})"

    def distance(self, image: Tensor, reference: Tensor) -> Tensor:
        return _network(self.net)(image / 127.5 - 1, reference / 127.5 - 1)


@lru_cache
def _network(net: Backbone) -> Any:
    def load() -> Any:
        import lpips

        return lpips.LPIPS(net=net, verbose=False).eval().requires_grad_(False)

    return load_backbone("lpips", "lpips", net, load)
