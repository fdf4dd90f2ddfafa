"""Metrics that measure with a trained network, which comes from an optional package and may have to be downloaded."""

import contextlib
import io
import socket
from abc import abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from typing import ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from atbsn.metrics.base import Metric, Rounding, check_shapes, check_sides, quantize
from atbsn.utils.errors import UserError

T = TypeVar("T")
_MIN_SIDE = 32
"""Pixels: shortest side of a picture. The five poolings of VGG16 leave one pixel of it."""

_TIMEOUT = 20.0
"""Seconds to wait for an answer of torchvision's server. Chosen by hand."""


class FeatureDistance(Metric):
    """The distance of two pictures in the features of a trained network; 0 for equal pictures.

    Pictures have at least 32 x 32 pixels. A subclass defines ``name``, ``protocol`` and ``distance``.
    """

    higher_is_better: ClassVar[bool] = False
    name: ClassVar[str]

    def __init__(self, round: Rounding, clip: bool) -> None:
        self.round, self.clip = round, clip

    @abstractmethod
    def distance(self, image: Tensor, reference: Tensor) -> Tensor:
        """Measure two pictures (1, 3, H, W), float32, RGB, [0, 255]; the result is one number."""

    def check_size(self, height: int, width: int, channels: int) -> None:
        check_sides(self.name, height, width, _MIN_SIDE)

    def __call__(self, image: np.ndarray, reference: np.ndarray) -> float:
        check_shapes(image, reference)
        self.check_size(*image.shape)
        one, other = (
            torch.from_numpy(np.float32(quantize(x, round=self.round, clip=self.clip))).permute(2, 0, 1)[None]
            for x in (image, reference)
        )
        with torch.inference_mode():
            return float(self.distance(one, other))


def load_backbone(metric: str, package: str, backbone: str, load: Callable[[], T]) -> T:
    """Call ``load``, which loads a network, and turn what can go wrong into a message.

    Args:
        metric: name of the metric, and of the extra that installs ``package``.
        package: the package that ``load`` imports.
        backbone: name of torchvision's network that ``load`` downloads.

    Raises:
        UserError: the extra is not installed, or the backbone is not on this computer and cannot be downloaded.
    """
    if find_spec(package) is None:
        raise UserError(f'type: {metric}: needs a package that is not installed; pip install "atbsn[{metric}]"')
    waits = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(_TIMEOUT)  # torch sets none, and would wait for ever behind some firewalls
        with contextlib.redirect_stdout(io.StringIO()):  # lpips prints what it loads
            return load()
    except (OSError, RuntimeError) as error:  # no network, or a part of the file
        raise UserError(
            f"type: {metric}: the weights of its backbone '{backbone}' cannot be fetched ({error}); run it once where "
            f"download.pytorch.org can be reached, and copy the file to {torch.hub.get_dir()}/checkpoints here"
        ) from error
    finally:
        socket.setdefaulttimeout(waits)
