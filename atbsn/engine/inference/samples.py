"""Denoise the samples of a picture in horizontal bands, from top to bottom, so that little memory is needed."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.tiling import lay
from atbsn.engine.inference.transfer import CleanRows, is_asynchronous, to_device, white_of
from atbsn.utils.errors import UserError

OnProgress = Callable[[float], None]
"""Called with the share that is done, 0 to 1. An exception that it raises ends the computation."""


class PictureInProgress:
    """A picture that is being denoised.

    On a GPU, the constructor starts the computation of the first band and returns. If the next picture is constructed
    before ``result`` of this one is called, it is copied to the device while this one is computed. On other devices
    nothing is computed before ``result`` is called.

    Args:
        rgb: (H, W, 3), uint8, uint16 or float, RGB, any size.
        name: name of the picture, for errors.
        white: value of white in ``rgb``; None: 65535 for uint16, otherwise 255.
        on_progress: called after every batch of tiles.
        in_place: write the result over ``rgb``, which saves the memory of a second picture. Do not read ``rgb`` before
            ``result`` has returned.

    Attributes:
        under_way: whether all bands are started. Then ``result`` only waits, and may be called in another thread.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        rgb: np.ndarray,
        name: str,
        white: float | None = None,
        on_progress: OnProgress | None = None,
        in_place: bool = False,
    ) -> None:
        self._name = name
        self._result = rgb if in_place and rgb.flags.writeable else np.empty_like(rgb)
        self._bands = _bands(denoiser, rgb, white_of(rgb.dtype) if white is None else white, on_progress)
        self._top = 0
        # A GPU computes in the background: start the next band before waiting for the one before it.
        self._begun = deque(islice(self._bands, is_asynchronous(denoiser.device)))
        self.under_way = sum(band.height for band in self._begun) == len(rgb)

    def result(self) -> np.ndarray:
        """The denoised picture, of the shape, type and range of the noisy one: clipped, and integers rounded.

        Raises:
            UserError: the output is not finite.
        """
        for band in self._bands:
            self._begun.append(band)
            self._put(self._begun.popleft())
        while self._begun:
            self._put(self._begun.popleft())
        return self._result

    def _put(self, band: CleanRows) -> None:
        if not band.into(self._result[self._top : self._top + band.height]):
            raise UserError(f"{self._name}: the network's output is not finite; check its weights")
        self._top += band.height


def denoise_samples(denoiser: Denoiser, rgb: np.ndarray, name: str, **how: Any) -> np.ndarray:
    """Denoise a picture: ``PictureInProgress(denoiser, rgb, name, **how).result()``."""
    return PictureInProgress(denoiser, rgb, name, **how).result()


def _bands(denoiser: Denoiser, rgb: np.ndarray, white: float, on_progress: OnProgress | None) -> Iterator[CleanRows]:
    """Yield the clean rows of a picture from top to bottom. Only one row of tiles is in memory as float32.

    Tiles lie and are blended as in one pass over the whole picture, so the values are the same. A denoiser that needs
    the whole picture (``is_local`` is False) gives one band.
    """
    height, width = rgb.shape[:2]
    plan = denoiser.plan(height, width)
    bands = [(0, height)]
    if denoiser.is_local and not denoiser.self_ensemble:
        bands = plan.tiler().rows(height)
    rest = None  # the last rows of the band before, which this band overlaps
    later = [top for top, _ in bands[1:]] + [height]
    for number, ((top, bottom), following) in enumerate(zip(bands, later, strict=True)):
        noisy = to_device(rgb[top:bottom], denoiser.device if plan.resident else torch.device("cpu"), white)
        rows = watched(denoiser, on_progress, number, len(bands))(noisy, plan)[0]
        with torch.inference_mode():  # as where they come from
            if rest is not None:
                overlap = rest.shape[1]
                lay(rest, rows[:, :overlap], 0, overlap, dim=-2)
                rows[:, :overlap] = rest
            rest = rows[:, following - top :].clone()
            samples = CleanRows(rows[:, : following - top], rgb.dtype, white)
        yield samples


def watched(denoiser: Denoiser, on_progress: OnProgress | None, number: int = 0, bands: int = 1) -> Denoiser:
    """``denoiser``, but calling ``on_progress`` after every batch of tiles.

    Args:
        number: index of the band that it denoises, of ``bands``.
    """
    if on_progress is None:
        return denoiser
    shown = number / bands

    def tell(done: int, tiles: int) -> None:
        nonlocal shown
        # Some networks go over the picture more than once: the share does not go back for the later passes.
        shown = max(shown, (number + done / tiles) / bands)
        on_progress(shown)

    return replace(denoiser, on_tiles=tell)
