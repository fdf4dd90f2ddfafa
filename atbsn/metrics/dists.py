"""DISTS: structure and texture as a trained network sees them (Ding et al., IEEE TPAMI 2022, arXiv 2004.07728)."""

from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch

from atbsn.metrics.backbones import load_backbone
from atbsn.metrics.base import PEAK, Metric, Rounding, check_shapes, check_sides, in_words, quantize
from atbsn.registry import METRICS

_LEAST = 32
"""Pixels: VGG16 has four poolings up to the last features that are compared, and they must keep a picture."""


@METRICS.register
class DISTS(Metric):
    """Deep image structure and texture similarity (Ding et al., arXiv 2004.07728), of torchmetrics; extra ``[dists]``.

    0 for equal pictures; lower is better. It forgives texture that is another one of the same kind, as LPIPS does not.
    At the size of the picture, without the authors' shrinking to 256 pixels. From 32 x 32 pixels on.

    Args:
        round: round both half up, floor(x + 0.5), or ``down``.
        clip: clip both to [0, 255].
    """

    higher_is_better: ClassVar[bool] = False

    def __init__(self, round: Rounding = True, clip: bool = True) -> None:
        self.round, self.clip = round, clip
        _network()  # what is missing is said now, not after hours of training

    @property
    def protocol(self) -> str:
        return f"dists (VGG16, full size, {in_words(self.round, self.clip)})"

    def check_size(self, height: int, width: int, channels: int) -> None:
        check_sides("dists", height, width, _LEAST)

    def __call__(self, image: np.ndarray, reference: np.ndarray) -> float:
        check_shapes(image, reference)
        self.check_size(*image.shape)
        pair = [
            torch.from_numpy(np.float32(quantize(x, self.round, self.clip))).permute(2, 0, 1)[None] / PEAK
            for x in (image, reference)
        ]
        with torch.inference_mode():
            return float(_network()(*pair))


@lru_cache
def _network() -> Any:
    def load() -> Any:
        from torchmetrics.functional.image.dists import DISTSNetwork  # its class of a metric makes one a picture

        return DISTSNetwork().eval()

    return load_backbone("dists", "torchmetrics", "vgg16", load)
