"""Floor 0: metrics, which measure how near a picture is to its reference, each by a named protocol; one in each file.

Published numbers are computed in incompatible ways (the protocol alone moves SSIM by 0.05), so a number means nothing
without its protocol: ``Metric.protocol`` is the text that logs and tables carry.

Pictures are (H, W, 3) arrays, RGB, in [0, 255], of any real type; ``psnr``, and ``ssim`` by channels, take (H, W, C).
The value of a data set is the mean over its pictures.
"""

from collections.abc import Mapping
from typing import Any

from atbsn.metrics.base import Metric
from atbsn.metrics.psnr import psnr
from atbsn.metrics.ssim import ssim
from atbsn.registry import METRICS
from atbsn.registry.build import build

__all__ = ["ESTIMATED_PSNR", "METRICS", "Metric", "build_metric", "psnr", "ssim"]

ESTIMATED_PSNR = "estimated_psnr"
"""The value by which the best weights can be chosen on a set without references (``engine.evaluation.residual``)."""


def build_metric(options: Mapping[str, Any]) -> Metric:
    """Build the metric of an option file: ``{"type": "ssim", "protocol": "y", "round": False, "clip": False}``.

    Raises:
        UserError: unknown type, argument or value, or something that it needs is not installed.
    """
    return build(METRICS, options)
