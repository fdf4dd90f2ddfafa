"""Trained networks that metrics measure with, from packages that are extras and servers that may be out of reach."""

import contextlib
import io
import socket
from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeVar

import torch

from atbsn.utils.errors import UserError

T = TypeVar("T")

_PATIENCE = 20.0
"""Seconds without an answer from torchvision's server."""


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
