"""LPIPS: how far apart pictures are for a trained network's features (Zhang et al., CVPR 2018, arXiv 1801.03924)."""

from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from atbsn.metrics.backbones import load_backbone
from atbsn.metrics.base import Metric, Rounding, check_shapes, check_sides, in_words, quantize
from atbsn.registry import METRICS

Backbone = Literal["alex", "vgg", "squeeze"]
_LEAST = 32


@METRICS.register
class LPIPS(Metric):
    """Learned perceptual distance (Zhang et al., CVPR 2018, arXiv 1801.03924), v0.1; needs the extra ``[lpips]``.

    0 for equal pictures; lower is better. From 32 x 32 pixels on.

    Args:
        net: whose features are compared: ``alex`` as most papers, ``vgg`` or ``squeeze``.
        round: round both half up, floor(x + 0.5), or ``down``.
        clip: clip both to [0, 255].
    """

    higher_is_better: ClassVar[bool] = False

    def __init__(self, net: Backbone = "alex", round: Rounding = True, clip: bool = True) -> None:
        self.net, self.round, self.clip = net, round, clip
        _network(net)  # what is missing is said now, not after hours of training

    @property
    def protocol(self) -> str:
        return f"lpips (v0.1, {self.net}, {in_words(self.round, self.clip)})"

    def check_size(self, height: int, width: int, channels: int) -> None:
        check_sides("lpips", height, width, _LEAST)

    def __call__(self, image: np.ndarray, reference: np.ndarray) -> float:
        check_shapes(image, reference)
        self.check_size(*image.shape)
        pair = [
            torch.from_numpy(np.float32(quantize(x, self.round, self.clip))).permute(2, 0, 1)[None] / 127.5 - 1
            for x in (image, reference)
        ]
        with torch.inference_mode():
            return float(_network(self.net)(*pair))


@lru_cache
def _network(net: Backbone) -> Any:
    def load() -> Any:
        import lpips

        return lpips.LPIPS(net=net, verbose=False).eval().requires_grad_(False)

    return load_backbone("lpips", "lpips", net, load)
