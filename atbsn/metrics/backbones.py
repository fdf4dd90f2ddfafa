"""Trained networks that metrics measure with, from packages that are extras and servers that may be out of reach."""

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
_LEAST = 32
"""Pixels: the poolings of the backbones must leave something of a picture."""

_PATIENCE = 20.0
"""Seconds without an answer from torchvision's server."""


class FeatureDistance(Metric):
    """A distance of pictures by the features of a trained network: 0 for equal ones, from 32 x 32 pixels on.

    A subclass has its ``name`` and gives the ``protocol`` and ``distance``.
    """

    higher_is_better: ClassVar[bool] = False
    name: ClassVar[str]

    def __init__(self, round: Rounding, clip: bool) -> None:
        self.round, self.clip = round, clip

    @abstractmethod
    def distance(self, image: Tensor, reference: Tensor) -> Tensor:
        """Measure two pictures (1, 3, H, W), float32, RGB, [0, 255]; the result is one number."""

    def check_size(self, height: int, width: int, channels: int) -> None:
        check_sides(self.name, height, width, _LEAST)

    def __call__(self, image: np.ndarray, reference: np.ndarray) -> float:
        check_shapes(image, reference)
        self.check_size(*image.shape)
        one, other = (
            torch.from_numpy(np.float32(quantize(x, self.round, self.clip))).permute(2, 0, 1)[None]
            for x in (image, reference)
        )
        with torch.inference_mode():
            return float(self.distance(one, other))


def load_backbone(metric: str, package: str, backbone: str, load: Callable[[], T]) -> T:
    """What ``load`` makes with ``package``, an extra named as the ``metric``; ``backbone`` comes from torchvision.

    Raises:
        UserError: the extra is not installed, or the backbone is not there and cannot be fetched.
    """
    if find_spec(package) is None:
        raise UserError(f'type: {metric}: needs a package that is not installed; pip install "atbsn[{metric}]"')
    waits = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(_PATIENCE)  # torch sets none, and waits for ever behind some walls
        with contextlib.redirect_stdout(io.StringIO()):  # lpips greets
            return load()
    except (OSError, RuntimeError) as error:  # no network, or half a file
        raise UserError(
            f"type: {metric}: the weights of its backbone '{backbone}' cannot be fetched ({error}); run it once where "
            f"download.pytorch.org can be reached, and copy the file to {torch.hub.get_dir()}/checkpoints here"
        ) from error
    finally:
        socket.setdefaulttimeout(waits)
