"""Random crops: a bounded number of them, of any number of pictures."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atbsn.data.base import ImageSet, White, as_rgb, kept_samples, picture_of
from atbsn.data.folder import write_examples
from atbsn.pictures import Picture, exif, find_pictures, read_picture
from atbsn.registry import DATASETS
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger
from atbsn.utils.types import NonNegativeInt, PositiveFloat, PositiveInt

_MIN_EACH = 4
"""Least number of crops of each picture that is large enough, if the time may end the reading. With one crop each, the
few large files that are read in time would give only a few crops. Chosen by hand."""


@DATASETS.register
class PictureCrops(ImageSet):
    """Random crops of noisy pictures, without references, in memory, which is bounded by ``num_crops``.

    Every picture is read once, when the set is made. Pictures that cannot be read, or are smaller than ``min_side``,
    are left out and named in the log.

    Args:
        paths: pictures, and folders of pictures.
        num_crops: most crops of all pictures together. Each picture gives about as many, and at least one.
        side: side of a crop, pixels; smaller pictures are taken whole.
        min_side: shortest side that a picture may have, pixels.
        seed: seed of the places of the crops.
        white: as for ``NoisyFolder``.
        seconds: stop reading after this time if there is a picture that can be used. Pictures are then read in a random
            order, so that those that are read are a random sample of all.

    Attributes:
        cameras: make and model of the camera of each picture that is used; None if its file does not tell.
        skipped: the pictures that are left out, with the reason.

    Raises:
        UserError: no picture can be used.
    """

    def __init__(
        self,
        paths: Sequence[str],
        num_crops: PositiveInt = 256,
        side: PositiveInt = 512,
        min_side: PositiveInt = 64,
        seed: NonNegativeInt = 0,
        white: White = "auto",
        seconds: PositiveFloat | None = None,
    ) -> None:
        begin = time.monotonic()
        found = find_pictures(paths)
        rng = np.random.default_rng(seed)
        chosen = list(rng.permutation(len(found.paths))[:num_crops])
        if seconds is None:
            chosen.sort()
        self._keys: list[str] = []
        self._crops: list[np.ndarray] = []
        self._owners: list[int] = []
        self.cameras: list[str | None] = []
        self.skipped = list(found.skipped)
        keys = [path.as_posix() for path in found.paths]
        each = max(_MIN_EACH if seconds is not None else 1, num_crops // max(1, len(chosen)))
        for number in chosen:
            if seconds is not None and self._crops and time.monotonic() - begin > seconds:
                break
            if len(self._crops) >= num_crops:
                break
            try:
                picture = read_picture(found.paths[number], white=white)
            except UserError as error:
                logger.warning("%s", error)
                self.skipped.append((found.paths[number], "cannot be read"))
                continue
            height, width = picture.rgb.shape[:2]
            if min(height, width) < min_side:
                reason = f"{height}x{width} pixels, smaller than {min_side}x{min_side}"
                logger.warning("%s: %s", found.paths[number], reason)
                self.skipped.append((found.paths[number], reason))
                continue
            self.cameras.append(exif.camera(picture.exif))
            self._cut(keys[number], picture, min(each, -(-height * width // side**2)), side, rng)
        if not self._crops:
            reasons = "; ".join(f"{path}: {reason}" for path, reason in self.skipped[:5])
            raise UserError(f"no picture can be used ({reasons or 'none was given'}); name noisy pictures or a folder")

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        write_examples(folder, "one", "two")
        return {"paths": [str(folder)], "side": 32, "min_side": 20}

    def __len__(self) -> int:
        return len(self._crops)

    def key(self, index: int) -> str:
        return self._keys[index]

    def owner(self, index: int) -> int:
        """The index in ``cameras`` of the picture that crop ``index`` is cut from."""
        return self._owners[index]

    def size(self, index: int) -> tuple[int, int]:
        height, width, _ = self._crops[index].shape
        return height, width

    def read(self, index: int) -> Picture:
        return picture_of(self._crops[index])

    def channels(self) -> frozenset[int]:
        return frozenset(crop.shape[2] for crop in self._crops)

    def preload(self) -> None:
        """Do nothing: the crops are in memory."""

    def crop(self, index: int, top: int, left: int, size: int) -> np.ndarray:
        return as_rgb(self._crops[index][top : top + size, left : left + size])

    def _cut(self, key: str, picture: Picture, number: int, side: int, rng: np.random.Generator) -> None:
        samples = kept_samples(picture)
        height, width = (min(side, length) for length in samples.shape[:2])
        for place in range(number):
            top, left = rng.integers(samples.shape[0] - height + 1), rng.integers(samples.shape[1] - width + 1)
            self._keys.append(f"{key}/{place}")
            self._owners.append(len(self.cameras) - 1)
            self._crops.append(samples[top : top + height, left : left + width].copy())


def random_crops(images: ImageSet, indices: Sequence[int], number: int, side: int, seed: int) -> list[np.ndarray]:
    """Cut ``number`` random crops of at most ``side`` x ``side`` pixels evenly from the pictures ``indices``.

    Returns:
        (H, W, 3) each, in the order of the pictures.
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(np.arange(max(number, len(indices))) % len(indices))[:number])
    crops = []
    for index in (indices[int(position)] for position in chosen):
        height, width = images.size(index)
        length = min(side, height, width)
        top, left = int(rng.integers(height - length + 1)), int(rng.integers(width - length + 1))
        crops.append(images.crop(index, top, left, length))
    return crops
