"""Denoising one picture in memory: ``atbsn.denoise``."""

from typing import Any

import numpy as np
import torch

from atbsn.archs.base import Network
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.tiling import Tiler
from atbsn.utils.errors import UserError
from atbsn.utils.types import Hole

WHOLE = 2**18
"""Pixels up to which ``denoise`` takes a picture in one pass unless told otherwise: less than 2 GB for any network."""
DEFAULT_TILE = 384


def denoise(
    net: Network,
    image: np.ndarray,
    k: Hole | None = None,
    tile: int | None = None,
    *,
    overlap: int | None = None,
    self_ensemble: bool = False,
    data_range: float | None = None,
    **how: Any,
) -> np.ndarray:
    """Denoise one picture with ``net``, in float32, on the device where ``net`` is.

    Args:
        image: (H, W, 3) RGB, uint8, uint16 or float, any size.
        k: short for the keyword ``k`` of networks with a blind spot; ``mean`` is that of their family. None: the one
            their weights are meant for.
        tile: side of the tiles, pixels. None: one pass up to 512 x 512, beyond that tiles of 384, or of four
            overlaps where that is more.
        overlap: pixels that neighbouring tiles share and blend over; None: as many as suit the network.
        self_ensemble: average over the eight orientations (8 times slower).
        data_range: value of white; None: 255 for uint8, 65535 for uint16, and for float 1 if no value exceeds
            1.5, else 255.
        how: keywords of the network's own ``denoise``, and those of ``finish``: ``strength`` in 0..2, how much of the
            noise is taken off, or ``luma`` and ``colour`` apart; ``detail`` in 0..1 or "auto", how much of what noise
            cannot explain is given back; ``hot_pixels``, ``banding``, ``enlarged``.
            Without them, what the weights were trained for (``net.denoise_settings``).

    Returns:
        The denoised picture: shape, dtype and range of ``image``, clipped to [0, ``data_range``]. With ``strength`` 0
        ``image`` itself, unless it is repaired. The same every time, also where the network draws random numbers.

    Raises:
        UserError: not an (H, W, 3) picture, ``tile``, ``overlap`` or ``data_range`` out of range, or a keyword that the
            network does not have or take.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(f"image: shape {image.shape} is not (H, W, 3) RGB; stack a grey picture three times")
    if image.dtype not in (np.uint8, np.uint16) and not np.issubdtype(image.dtype, np.floating):
        raise UserError(f"image: dtype {image.dtype} is not uint8, uint16 or float; convert it")
    if data_range is not None and not 0 < data_range < float("inf"):
        raise UserError(f"data_range: {data_range} is no value of white; give 1.0, 255 or the like")
    white = _white(image) if data_range is None else data_range
    if tile is None and image.shape[0] * image.shape[1] > WHOLE:
        tile = max(DEFAULT_TILE, 4 * (net.tile_overlap if overlap is None else overlap))
    tiler = Tiler(tile, net.tile_overlap if overlap is None else overlap, device=next(net.parameters()).device)
    settings = {**net.denoise_settings, **how, **({} if k is None else {"k": k})}
    denoiser = Denoiser(net, settings, tiler, self_ensemble=self_ensemble)
    if denoiser.leaves_pictures_alone:
        return image.copy()  # to the bit, which no conversion there and back would be
    noisy = torch.from_numpy(image.astype(np.float32) * np.float32(255 / white)).permute(2, 0, 1)[None]
    output = denoiser(noisy)
    values = output[0].permute(1, 2, 0).clamp(0, 255).cpu().numpy() * np.float32(white / 255)
    if np.issubdtype(image.dtype, np.integer):
        values = np.floor(values + 0.5)
    return values.astype(image.dtype)


def _white(image: np.ndarray) -> float:
    if np.issubdtype(image.dtype, np.integer):
        return float(np.iinfo(image.dtype).max)
    return 1.0 if image.max() <= 1.5 else 255.0
