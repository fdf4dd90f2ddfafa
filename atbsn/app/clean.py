"""One picture from noisy to clean, the same for the command and the page: equal settings give equal files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from atbsn.engine.inference.bands import denoise_in_bands
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.tiling import Function, Tiler
from atbsn.pictures import Picture, from_tensor, write_picture
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_atomically

_ROWS = 64
"""Of a picture, that are rounded at once."""

OnProgress = Callable[[float], None]
"""Is told the share that is done, 0 to 1. What it raises ends the computation."""


def clean_picture(
    denoiser: Denoiser,
    picture: Picture,
    key: str,
    on_progress: OnProgress | None = None,
    in_place: bool = False,
) -> Picture:
    """``picture`` without its noise: size, depth, transparency and metadata are kept.

    Args:
        key: the name of its file, for messages.
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
    for top, rows in denoise_in_bands(denoiser, picture.rgb, watched_band):
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
