"""Denoisers for photographs, as the ``atbsn`` command and the page use them."""

from typing import Any

import torch

from atbsn.archs.base import Network
from atbsn.engine.inference.denoiser import Denoiser, build_denoiser
from atbsn.engine.inference.finish import split_settings
from atbsn.options.schema import Test
from atbsn.utils.errors import UserError


def photo_denoiser(net: Network, *, tile: int | str = "auto", **settings: Any) -> Denoiser:
    """The denoiser of the command and of the page, on the device of ``net``.

    Args:
        tile: side of the tiles in pixels, ``auto`` or ``none``.
        settings: keywords of the network's ``denoise`` (such as ``k``) and of ``finish`` (such as ``strength``). They
            replace those that its weights were trained for.

    Raises:
        UserError: the network lacks one of the settings or does not accept its value.
    """
    device = next(net.parameters()).device
    if tile not in ("auto", "none") and (isinstance(tile, str) or tile < 2 * net.tile_overlap):
        raise UserError(f"tile: {tile}: not auto, none or {2 * net.tile_overlap} pixels and more; use auto")
    options = Test(denoise=settings, tile=tile if isinstance(tile, int) else "none" if tile == "none" else "auto")
    return build_denoiser(net.eval(), device, options, net.denoise_settings)


def takes_setting(net: Network, name: str, value: Any) -> bool:
    """Whether ``net`` has the setting ``name`` and accepts ``value`` for it."""
    try:
        split_settings(type(net), {name: value})
    except UserError:
        return False
    return True


def best_device() -> torch.device:
    """The GPU if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
