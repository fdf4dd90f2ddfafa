"""One picture from noisy to clean, the same for the command and the page: equal settings give equal files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from atbsn.archs.base import Network
from atbsn.engine.inference.bands import denoise_in_bands
from atbsn.engine.inference.denoiser import Denoiser, build_denoiser
from atbsn.engine.inference.finish import split_settings
from atbsn.engine.inference.tiling import Function, Tiler
from atbsn.options.schema import Test
from atbsn.pictures import Picture, from_tensor, write_picture
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_atomically

TILE = 512
"""Side of the tiles unless told otherwise: larger ones share less with their neighbours, but take more memory."""
_ROWS = 64
"""Of a picture, that are rounded at once."""

OnProgress = Callable[[float], None]
"""Is told the share that is done, 0 to 1. What it raises ends the computation."""


def photo_denoiser(net: Network, *, tile: int | str = "auto", **settings: Any) -> Denoiser:
    """The denoiser of the command and of the page, on the device where ``net`` is.

    Args:
        tile: side of the tiles, pixels, ``auto`` or ``none``.
        settings: keywords of the network's ``denoise`` (such as ``k``) and ``strength``, laid over those that its
            weights were trained for.

    Raises:
        UserError: a setting that the network does not have or take.
    """
    device = next(net.parameters()).device
    if tile == "auto":
        tile = max(TILE, 4 * net.tile_overlap)
    side: int | Literal["none"] = "none" if tile == "none" else tile if isinstance(tile, int) else 0
    if side != "none" and side < 2 * net.tile_overlap:
        raise UserError(f"tile: {tile}: not auto, none or {2 * net.tile_overlap} pixels and more; use auto")
    return build_denoiser(net.eval(), device, Test(denoise=settings, tile=side), net.denoise_settings)


def clean_picture(
    denoiser: Denoiser,
    picture: Picture,
    key: str,
    on_progress: OnProgress | None = None,
    in_place: bool = False,
) -> Picture:
    """``picture`` without its noise: size, depth, transparency and metadata are kept.

    Args:
        key: the name of its file, on which alone depends what a network draws.
        on_progress: called after every tile.
        in_place: write over the samples of ``picture``, which saves the memory of a second one.

    Raises:
        UserError: the output is not finite.
    """
    if denoiser.leaves_pictures_alone:
        return picture

    def watched_band(number: int, bands: int) -> Denoiser:
        return watched(denoiser, on_progress and (lambda share: on_progress((number + share) / bands)))

    rgb = picture.rgb if in_place and picture.rgb.flags.writeable else np.empty_like(picture.rgb)
    for top, rows in denoise_in_bands(denoiser, picture.rgb, key, watched_band):
        if not rows.isfinite().all():
            raise UserError(f"{key}: the network's output is not finite; check its weights")
        for part in rows.split(_ROWS, dim=1):
            rgb[top : top + part.shape[1]] = from_tensor(part, rgb.dtype)
            top += part.shape[1]
    return replace(picture, rgb=rgb)


def write_clean(denoiser: Denoiser, source: Path, clean: Picture, target: Path) -> None:
    """Write ``clean``, what ``denoiser`` made of ``source``, to ``target``.

    Where it takes nothing off, and the format stays, that is the file itself: a JPEG is not compressed once more.
    """
    if denoiser.leaves_pictures_alone and source.suffix.lower() == target.suffix.lower():
        write_atomically(target, lambda file: file.write(source.read_bytes()))
    else:
        write_picture(target, clean)


def clean_name(name: str, picture: Picture) -> str:
    """What the clean file beside ``name`` is called: ``photo.jpg`` gives ``photo_clean.jpg``."""
    return f"{Path(name).stem}_clean{picture.suffix}"


def takes_setting(net: Network, name: str, value: Any) -> bool:
    """Whether ``name`` = ``value`` is a setting of ``net``."""
    try:
        split_settings(type(net), {name: value})
    except UserError:
        return False
    return True


def watched(denoiser: Denoiser, on_progress: OnProgress | None) -> Denoiser:
    """The same, telling after every tile how much is done."""
    if on_progress is None:
        return denoiser
    return replace(denoiser, tiler=_WatchedTiler(denoiser.tiler, on_progress))


class _WatchedTiler(Tiler):
    """A tiler that counts. Of a network that is laid over its picture more than once, the first time counts."""

    def __init__(self, tiler: Tiler, on_progress: OnProgress) -> None:
        super().__init__(tiler.tile, tiler.overlap, tiler.batch_size, tiler.device)
        self.on_progress = on_progress
        self.share = 0.0

    def __call__(self, function: Function, x: Tensor) -> Tensor:
        tiles = len(self.starts(x.shape[-2])) * len(self.starts(x.shape[-1]))
        done = 0

        def counted(tile: Tensor) -> Tensor:
            nonlocal done
            output = function(tile)
            done += max(1, len(tile) // len(x))
            self.share = max(self.share, min(1.0, done / tiles))
            self.on_progress(self.share)
            return output

        return super().__call__(counted, x)


def best_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
