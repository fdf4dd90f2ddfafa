"""From the samples of a noisy picture to those of a clean one, band by band from top to bottom."""

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
"""Is told the share that is done, 0 to 1. What it raises ends the computation."""


class PictureInProgress:
    """A picture that is being denoised.

    On a GPU it is on its way as soon as this is there (the first band of it, of pictures that are not done whole): who
    begins the next picture before he asks for the ``result`` of this one has both copied while the device computes. On
    anything else nothing happens before ``result``.

    Args:
        rgb: (H, W, 3), uint8, uint16 or float, RGB, any size.
        name: of the picture, for errors.
        white: value of white of ``rgb``; None: 255, of uint16 65535.
        on_progress: called after every batch of tiles.
        in_place: write the result over ``rgb``, which saves the memory of a second picture. It is not to be looked at
            before ``result`` is there.

    Attributes:
        under_way: nothing is left to be started: ``result`` only waits, and may be asked for in another thread.
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
        # A GPU returns before it is done: it gets the next band before the one before it is waited for.
        self._begun = deque(islice(self._bands, is_asynchronous(denoiser.device)))
        self.under_way = sum(band.height for band in self._begun) == len(rgb)

    def result(self) -> np.ndarray:
        """The denoised picture: shape, type and range of the noisy one, clipped, rounded where they are integers.

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
    """The result of ``PictureInProgress`` with the same arguments."""
    return PictureInProgress(denoiser, rgb, name, **how).result()


def _bands(denoiser: Denoiser, rgb: np.ndarray, white: float, on_progress: OnProgress | None) -> Iterator[CleanRows]:
    """The clean rows of a picture, from top to bottom, holding only one row of its tiles as numbers of 32 bits.

    The rows of tiles, and how they are blended, are those of the whole picture, so the values are too. A denoiser that
    needs the whole picture (``is_local`` is False) gives it in one band.
    """
    height, width = rgb.shape[:2]
    plan = denoiser.plan(height, width)
    bands = [(0, height)]
    if denoiser.is_local and not denoiser.self_ensemble:
        bands = plan.tiler().rows(height)
    rest = None  # of the band before: where this one is laid over it
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
    """The same, telling after every batch of tiles how much of a picture is done; for the band of this number of it."""
    if on_progress is None:
        return denoiser
    shown = number / bands

    def tell(done: int, tiles: int) -> None:
        nonlocal shown
        # Of a network that is laid over its picture more than once, the first time counts.
        shown = max(shown, (number + done / tiles) / bands)
        on_progress(shown)

    return replace(denoiser, on_tiles=tell)
