"""Denoising one picture in memory: ``atbsn.denoise``."""

from typing import Any, Literal

import numpy as np

from atbsn.archs.base import Network
from atbsn.engine.inference.denoiser import Denoiser, usual_tile
from atbsn.engine.inference.plan import ComputeOptions
from atbsn.engine.inference.samples import denoise_samples
from atbsn.pictures import check_mask, keep_where_black
from atbsn.utils.errors import UserError
from atbsn.utils.types import Hole, Precision


def denoise(
    net: Network,
    image: np.ndarray,
    k: Hole | None = None,
    tile: int | None = None,
    *,
    mask: np.ndarray | None = None,
    overlap: int | None = None,
    self_ensemble: bool = False,
    data_range: float | None = None,
    precision: Precision | Literal["auto"] = "auto",
    batch_size: int | None = None,
    **how: Any,
) -> np.ndarray:
    """Denoise one picture with ``net``, on the device of ``net``. ``atbsn denoise`` gives a file the same values.

    On a GPU the free memory decides how it is computed (``plan.DevicePlan``): the whole picture in one pass if it fits,
    in the fastest precision, and from the second picture of a size on as a CUDA graph.

    Args:
        image: (H, W, 3) RGB, or (H, W, C) for a network with C channels; uint8, uint16 or float, any size.
        k: blind spot, for networks that have one; ``mean``: the mean over their family. None: the one that their
            weights were trained for.
        tile: side of the tiles, pixels. None: on a GPU the largest that fit; elsewhere as ``usual_tile`` says.
        mask: (H, W), bool, uint8, uint16, or float in [0, 1]: white is denoised, grey in part, black stays as it is.
            None: all is denoised.
        overlap: pixels that neighbouring tiles share and blend over; None: the network's own.
        self_ensemble: average over the eight orientations (8 times slower).
        data_range: value of white; None: 255 for uint8, 65535 for uint16, and for float 1 if no value exceeds
            1.5, else 255.
        precision: type of numbers to compute in: ``fp32``, ``bf16`` or (on a GPU) ``fp16``. ``auto``: bf16 if the
            device has instructions for it, otherwise fp32.
        batch_size: tiles at a time. None: on a GPU as many as fit, elsewhere 1.
        how: keywords of the network's own ``denoise``, and those of ``finish``: ``strength`` in 0..2, how much of the
            noise is removed, or ``luma`` and ``colour`` by themselves; ``detail`` in 0..1 or "auto", how much of what
            noise cannot explain is given back; ``hot_pixels``, ``banding``, ``enlarged``. Keywords that are not given
            have the values that the weights were trained for (``net.denoise_settings``).

    Returns:
        The denoised picture, of the shape, dtype and range of ``image``, clipped to [0, ``data_range``]. With
        ``strength`` 0 a copy of ``image``, unless it is repaired. The same input always gives the same result, even if
        the network draws random numbers.

    Raises:
        UserError: ``image`` or ``mask`` has a wrong shape or type; ``tile``, ``overlap``, ``batch_size`` or
            ``data_range`` is out of range; the network lacks a keyword or does not accept its value; the device lacks
            the precision; or the output is not finite.
    """
    image = np.asarray(image)
    if image.ndim != 3 or 0 in image.shape or (image.shape[2] != 3 and net.channels not in (1, image.shape[2])):
        wanted = "(H, W, 3) RGB" if net.channels in (1, 3) else f"(H, W, {net.channels})"
        raise UserError(f"image: shape {image.shape} is not {wanted}; stack a grey picture three times")
    if image.dtype not in (np.uint8, np.uint16) and not np.issubdtype(image.dtype, np.floating):
        raise UserError(f"image: dtype {image.dtype} is not uint8, uint16 or float; convert it")
    if data_range is not None and not 0 < data_range < float("inf"):
        raise UserError(f"data_range: {data_range} is no value of white; give 1.0, 255 or the like")
    if mask is not None:
        mask = np.asarray(mask)
        check_mask(mask, image.shape[:2], picture="image")
    white = _white(image) if data_range is None else data_range
    device = next(net.parameters()).device
    overlap = net.tile_overlap if overlap is None else overlap
    usual = usual_tile(net, overlap)
    at_once: int | Literal["auto"] = "auto" if batch_size is None else batch_size
    asked = ComputeOptions("auto" if tile is None else tile, overlap, at_once, precision, usual_tile=usual)
    settings = {**net.denoise_settings, **how, **({} if k is None else {"k": k})}
    denoiser = Denoiser(net, settings, device, asked, self_ensemble)
    if denoiser.leaves_pictures_alone:
        return image.copy()  # exact, which a conversion to [0, 255] and back would not be
    clean = denoise_samples(denoiser, image, "image", white=white)
    if mask is not None:
        keep_where_black(image, clean, mask)
    return clean


def _white(image: np.ndarray) -> float:
    if np.issubdtype(image.dtype, np.integer):
        return float(np.iinfo(image.dtype).max)
    return 1.0 if image.max() <= 1.5 else 255.0
