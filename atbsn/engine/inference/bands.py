"""Pictures of any size in little memory: band by band from top to bottom."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.tiling import lay
from atbsn.pictures import to_tensor

OnBand = Callable[[int, int], Denoiser]


def denoise_in_bands(
    denoiser: Denoiser, rgb: np.ndarray, for_band: OnBand | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Denoise a picture as ``denoiser`` does, but holding only one row of its tiles as numbers of 32 bits.

    The rows of tiles, and how they are blended, are the tiler's own, so the values are those of the whole picture. A
    denoiser that needs the whole picture (``is_local`` is False) gives it in one band.

    Args:
        rgb: (H, W, 3), uint8, uint16 or float32 in [0, 255]. Rows that were given are not looked at again, so the
            caller may write the result over them.
        for_band: called with the number of a band and of all bands; gives the denoiser to use for it.

    Yields:
        (top, rows): ``rows`` (3, h, W), on the CPU, not clipped, belong at ``top``; together they are the picture.
    """
    height, tile = rgb.shape[0], denoiser.tiler.tile
    tops = denoiser.tiler.starts(height) if denoiser.is_local and not denoiser.self_ensemble else [0]
    side = height if tile is None or len(tops) == 1 else tile
    rest = torch.empty(3, 0, rgb.shape[1])  # of the band before: where this one is laid over it
    for number, (top, following) in enumerate(pairwise([*tops, height])):
        used = denoiser if for_band is None else for_band(number, len(tops))
        rows = used(to_tensor(rgb[top : top + side])[None])[0].cpu()
        overlap = rest.shape[1]
        with torch.inference_mode():  # as where they come from
            lay(rest, rows[:, :overlap], 0, overlap, dim=-2)
            rows[:, :overlap] = rest
            rest = rows[:, following - top :].clone()
        yield top, rows[:, : following - top]
