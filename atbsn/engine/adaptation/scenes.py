"""The training data of an adaptation: the user's pictures, cleaned by the weights, and cameras with similar noise."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from atbsn.data.base import ImageSet
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.likeness import cameras_like
from atbsn.noise.prior import CameraPrior
from atbsn.pictures import Picture, read_picture, to_depth, to_tensor, write_picture
from atbsn.utils.budget import TimeBudget
from atbsn.utils.errors import UserError

SCENE_WHITE = 65535.0
"""Value of white in the files with cleaned pictures: all 16 bits. Without it, the reader would suspect dark files of
having fewer bits."""


def write_scenes(
    images: ImageSet, indices: Sequence[int], denoiser: Callable[[Tensor], Tensor], folder: Path, budget: TimeBudget
) -> list[int]:
    """Denoise the pictures ``indices``, and write them to ``folder`` as PNG files of 16 bits.

    Args:
        budget: when it is spent, no more pictures are cleaned, but at least one is.

    Returns:
        The indices of those that are cleaned.
    """
    folder.mkdir()
    done: list[int] = []
    for index in indices:
        if done and budget.is_spent:
            break
        clean = denoiser(_noisy(images, index)[None])[0].float().cpu()
        rows = np.ascontiguousarray(clean.permute(1, 2, 0).numpy())
        write_picture(_scene(folder, index), Picture(to_depth(rows, np.uint16)))
        done.append(index)
    return done


def cameras_of_noise(
    images: ImageSet, indices: Sequence[int], scenes: Path, tried: int, budget: TimeBudget, seed: int
) -> CameraTable:
    """The cameras of ``CameraPrior`` whose noise is nearest to the noise that was removed from the pictures.

    Args:
        images: the noisy pictures.
        indices: which of them are used.
        scenes: the folder of ``write_scenes``, with their clean versions.
        tried: number of cameras that are tried for each picture.
        budget: when it is spent, no further picture is used, but at least one is.
        seed: seed of the cameras that are drawn.

    Raises:
        UserError: nothing was removed from the pictures, or they are saturated.
    """

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for number, index in enumerate(indices):
            if number and budget.is_spent:
                return
            yield _noisy(images, index), to_tensor(read_picture(_scene(scenes, index), white=SCENE_WHITE).rgb)

    try:
        return cameras_like(pairs(), CameraPrior(), seed=seed, tried=tried)
    except ValueError as error:
        raise UserError(
            f"what the weights take off is like no camera's noise ({error}); adapt from weights that take the noise off"
        ) from None


def _scene(folder: Path, index: int) -> Path:
    return folder / f"{index}.png"


def _noisy(images: ImageSet, index: int) -> Tensor:
    """Picture ``index`` as a (3, H, W) tensor in [0, 255]."""
    return to_tensor(images.crop(index, 0, 0, max(images.size(index))))
