"""LPIPS: how far apart pictures are for a trained network's features (Zhang et al., CVPR 2018, arXiv 1801.03924)."""

import contextlib
import io
import socket
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch

from atbsn.utils.errors import UserError

_PATIENCE = 20.0
"""Seconds without an answer from torchvision's server."""

Backbone = Literal["alex", "vgg", "squeeze"]


@lru_cache
def load_lpips(net: Backbone) -> Any:
    """The measuring network, of the package ``lpips``; its backbone comes from torchvision's server at the first time.

    Raises:
        UserError: the extra is not installed, or the backbone is not there and cannot be fetched.
    """
    if find_spec("lpips") is None:
        raise UserError('type: lpips: needs a package that is not installed; pip install "atbsn[lpips]"')
    import lpips

    waits = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(_PATIENCE)  # torch sets none, and waits for ever behind some walls
        with contextlib.redirect_stdout(io.StringIO()):  # it greets
            return lpips.LPIPS(net=net, verbose=False).eval().requires_grad_(False)
    except (OSError, RuntimeError) as error:  # no network, or half a file
        raise UserError(
            f"type: lpips: the weights of its backbone '{net}' cannot be fetched ({error}); run it once where "
            f"download.pytorch.org can be reached, and copy the file to {torch.hub.get_dir()}/checkpoints here"
        ) from error
    finally:
        socket.setdefaulttimeout(waits)


def lpips_distance(image: np.ndarray, reference: np.ndarray, net: Backbone = "alex") -> float:
    """LPIPS v0.1 of two pictures, (H, W, 3), RGB, [0, 255], from 32 x 32 on: 0 for equal ones; lower is better.

    Raises:
        UserError: as ``load_lpips``, or a picture is too small.
    """
    if min(image.shape[:2]) < 32:
        raise UserError(f"a picture of {image.shape[0]}x{image.shape[1]}: lpips needs at least 32x32; leave it out")
    pair = [torch.from_numpy(np.float32(x)).permute(2, 0, 1)[None] / 127.5 - 1 for x in (image, reference)]
    with torch.inference_mode():
        return float(load_lpips(net)(*pair))
