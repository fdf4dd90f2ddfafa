"""Denoising pictures of any size: arrays in memory, and whole folders of files."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from atbsn.archs.base import Network, Tiled
from atbsn.data.base import ImageSet
from atbsn.engine.optimization import autocast, resolve_precision
from atbsn.engine.submission import open_submission
from atbsn.engine.tiling import Tiler, self_ensemble
from atbsn.models.base import Model
from atbsn.options.schema import Test
from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.image import Picture, from_tensor, to_tensor, write_picture
from atbsn.utils.log import logger, progress_bar
from atbsn.utils.prefetch import prefetch

WHOLE = 2**18
"""Pixels up to which ``denoise`` takes a picture in one pass unless told otherwise: less than 2 GB for any network."""
DEFAULT_TILE = 384
TILES_ON_GPU = 2**17
"""Pixels that a GPU computes at once unless told otherwise: less than 1 GB for any network, float32 or not."""
PICTURE_ON_GPU = 2**24
"""Pixels up to which a picture is cut into tiles and put together on the GPU; larger ones stay in the CPU's memory."""


def denoise(
    net: Network,
    image: np.ndarray,
    k: int = 3,
    tile: int | None = None,
    *,
    overlap: int | None = None,
    self_ensemble: bool = False,
    data_range: float | None = None,
) -> np.ndarray:
    """Denoise one picture with ``net``, on the device where ``net`` is.

    Args:
        image: (H, W, 3) RGB, uint8, uint16 or float, any size.
        k: blind spot, for networks that have one (0 or odd); ordinary networks leave it unused.
        tile: side of the tiles, pixels. None: one pass up to 512 x 512, beyond that tiles of 384, or of four
            overlaps where that is more.
        overlap: pixels that neighbouring tiles share and blend over; None: as many as suit the network.
        self_ensemble: average over the eight orientations (8 times slower).
        data_range: value of white; None: 255 for uint8, 65535 for uint16, and for float 1 if no value exceeds
            1.5, else 255.

    Returns:
        The denoised picture: shape, dtype and range of ``image``, clipped to [0, ``data_range``].

    Raises:
        UserError: not an (H, W, 3) picture, or ``k``, ``tile``, ``overlap`` or ``data_range`` out of range.
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
    device = next(net.parameters()).device
    noisy = torch.from_numpy(image.astype(np.float32) * np.float32(255 / white)).permute(2, 0, 1)[None]
    tiler = Tiler(tile, net.tile_overlap if overlap is None else overlap, device=device)
    output = run(lambda x, tiled: net.denoise(x, k=k, tiled=tiled), noisy, tiler, self_ensemble)
    values = output[0].permute(1, 2, 0).clamp(0, 255).numpy() * np.float32(white / 255)
    if np.issubdtype(image.dtype, np.integer):
        values = np.floor(values + 0.5)
    return values.astype(image.dtype)


def run(denoise: Callable[[Tensor, Tiled], Tensor], noisy: Tensor, tiler: Tiler, ensemble: bool = False) -> Tensor:
    """``denoise(noisy, tiler)``, over the eight orientations if asked; ``noisy`` and the result on the CPU."""
    with torch.inference_mode():
        if ensemble:
            return self_ensemble(lambda turned: denoise(turned, tiler), noisy)
        return denoise(noisy, tiler)


class Denoiser:
    """``denoiser(noisy)``: a method as it is used at test time, with its tiles, precision and device.

    Args:
        model: the method, on ``device``.
        device: where it computes.
        options: tiles, precision, blind spot.
        patch_size: training patch, the tile of ``tile: auto``.
    """

    def __init__(self, model: Model, device: torch.device, options: Test, patch_size: int | None) -> None:
        self.model, self.k, self.ensemble = model, options.k, options.self_ensemble
        overlap = model.net.tile_overlap if options.overlap == "auto" else options.overlap
        sizes = {"auto": max(patch_size or 256, 4 * overlap), "none": None}
        tile = sizes.get(options.tile, options.tile)
        at_once = max(1, TILES_ON_GPU // tile**2) if tile and device.type == "cuda" else 1
        self.tiler = Tiler(tile, overlap, at_once if options.tile_batch == "auto" else options.tile_batch, device)
        if options.compile:
            model.net.compile(dynamic=False)
        self.precision, self.device = resolve_precision(options.precision, device), device
        autocast(self.precision, device)  # a precision the device lacks is said here, before any picture

    def __call__(self, noisy: Tensor) -> Tensor:
        """(B, 3, H, W), RGB, [0, 255], any size, on the CPU, to the same, denoised, not clipped, on any device."""
        if noisy.shape[-2] * noisy.shape[-1] <= PICTURE_ON_GPU:
            noisy = noisy.to(self.device)
        with autocast(self.precision, self.device):
            return run(lambda x, tiled: self.model.denoise(x, k=self.k, tiled=tiled), noisy, self.tiler, self.ensemble)


def denoise_set(images: ImageSet, denoiser: Denoiser, folder: Path, description: str) -> int:
    """Denoise every picture of ``images`` into ``folder``: its name, format, depth, channels and sub-folder kept.

    Decoding, computing and encoding overlap. A picture that cannot be read, denoised or written is reported and the
    others are done. A benchmark's set also gets its submission, in ``folder/submission``.

    Returns:
        How many pictures failed, in all processes.

    Raises:
        UserError: a picture would be written over the one it comes from, or a submission does not read back as it
            should.
    """
    for index in range(len(images)):
        source = images.source(index)
        if source is not None and _target(images, index, source.suffix, folder).resolve() == source.resolve():
            raise UserError(f"{source}: would be overwritten by its denoised picture; give another --output")
    failures = 0
    submission = open_submission(images, folder / "submission")
    numbers = range(dist.rank(), len(images), dist.world_size())
    with ThreadPoolExecutor(max_workers=2) as writers:
        written: list[Future[None]] = []
        for index, picture in progress_bar(_read(images, numbers), description, total=len(numbers), unit="image"):
            if isinstance(picture, UserError):
                logger.error("%s", picture)
                failures += 1
                continue
            output = denoiser(to_tensor(picture.rgb)[None])[0][(..., *images.window(index))]
            if not output.isfinite().all():
                logger.error("%s: the network's output is not finite; check its weights", images.key(index))
                failures += 1
                continue
            result = replace(picture, rgb=from_tensor(output, picture.rgb.dtype))
            written.append(writers.submit(write_picture, _target(images, index, picture.suffix, folder), result))
            if submission is not None:
                written.append(writers.submit(submission.add, index, result.rgb))
            failures += _reap(written, keep=4)
        failures += _reap(written, keep=0)
    failures = sum(dist.gather(failures))
    if submission is not None and failures:
        logger.error("%s: no submission, since %d pictures are missing", folder, failures)
    elif submission is not None:
        submission.finish()
    return failures


def _target(images: ImageSet, index: int, suffix: str, folder: Path) -> Path:
    """Where a denoised picture goes: ``folder/<key><suffix>``, unless the key is a file name with its suffix."""
    key, source = images.key(index), images.source(index)
    return folder / (key if source is not None and Path(key).name == source.name else f"{key}{suffix}")


def _read(images: ImageSet, numbers: range) -> Iterator[tuple[int, Picture | UserError]]:
    def read(index: int) -> tuple[int, Picture | UserError]:
        try:
            return index, images.read(index)
        except UserError as error:
            return index, error

    return prefetch(read, numbers)


def _reap(written: list[Future[None]], keep: int) -> int:
    """Wait for all but the ``keep`` newest files; how many of them failed."""
    failures = 0
    while len(written) > keep:
        try:
            written.pop(0).result()
        except UserError as error:
            logger.error("%s", error)
            failures += 1
    return failures


def _white(image: np.ndarray) -> float:
    if np.issubdtype(image.dtype, np.integer):
        return float(np.iinfo(image.dtype).max)
    return 1.0 if image.max() <= 1.5 else 255.0
