"""Nearly clean pictures, made of noisy ones by reducing their size, which averages the noise away."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import cv2
import numpy as np
from annotated_types import Ge, Le, MinLen

from atbsn.data.base import ImageSet, White, kept_samples, picture_of
from atbsn.data.folder import relative_keys, write_examples
from atbsn.pictures import Picture, image_paths, picture_size, read_picture, to_depth
from atbsn.registry import DATASETS
from atbsn.utils.errors import UserError
from atbsn.utils.files import FileVersion, version_of
from atbsn.utils.types import NonNegativeFloat, PositiveInt

_ONE_AT_A_TIME = Lock()
"""OpenCV uses all cores for one picture, so threads wait for each other."""
_NLM_SIDES = (5, 15)
"""Pixels: sides of the neighbourhoods that are compared, and of the window in which they are searched. Chosen by
hand."""
_MEAN_OVER_ROOT = (2 / np.pi) ** 0.5
"""Mean absolute value of Gaussian numbers divided by their root mean square."""
_LAB_SCALE, _LAB_OFFSET = np.array([2.55, 1, 1], np.float32), np.array([0, 128, 128], np.float32)
"""Scale and offset of L, a and b as OpenCV stores them in 8 bits."""
Factor = Annotated[float, Ge(1), Le(16)]
"""Factor by which a picture is reduced."""


@DATASETS.register
class ReducedFolder(ImageSet):
    """Every picture of a folder, reduced by each of ``factors`` (area averaging).

    Averaging f x f pixels divides the standard deviation of independent noise by f, and that of a camera's correlated
    noise by less. Detail becomes finer. So the result is clean enough to be a target, with noise added to it as the
    input (``RenoiseModel``). If it is not, non-local means before the reduction (Buades et al., CVPR 2005) take off
    most of the rest, together with some of the finest texture, of which the reduced picture shows little. Noise that is
    left teaches a network to leave as much in the pictures that it denoises. Each file gives a picture for each factor.
    A factor of 1 is the noisy picture itself (``RecorruptModel`` learns from both).

    Args:
        dataroot: a folder, searched recursively, or one picture file.
        factors: factors by which height and width are divided, 1 to 16.
        nlm: strength h of OpenCV's non-local means before the reduction, grey values; for colour it is twice as large.
            0: none.
        min_side: pictures that would have a shorter side than this, pixels, are left out.
        white: as for ``NoisyFolder``.

    Raises:
        UserError: there is no such file or folder, or no picture is large enough.
    """

    def __init__(
        self,
        dataroot: str | Path,
        factors: Annotated[Sequence[Factor], MinLen(1)] = (2.5, 3.0, 4.0),
        nlm: NonNegativeFloat = 0.0,
        min_side: PositiveInt = 128,
        white: White = "auto",
    ) -> None:
        self.nlm, self.white = nlm, white
        root = Path(dataroot)
        paths = image_paths(root)
        keys = relative_keys(paths, root if root.is_dir() else root.parent)
        every = [(path, key, factor) for path, key in zip(paths, keys, strict=True) for factor in factors]
        self._entries = [entry for entry in every if min(_reduced(picture_size(entry[0]), entry[2])) >= min_side]
        if not self._entries:
            raise UserError(
                f"{root}: no picture keeps {min_side} pixels a side; give larger pictures or smaller factors"
            )

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        write_examples(folder, "one", "two")
        return {"dataroot": str(folder), "factors": [1, 1.5], "nlm": 3.0, "min_side": 20}

    def nearly_clean(self, index: int) -> bool:
        return self._entries[index][2] > 1

    def __len__(self) -> int:
        return len(self._entries)

    def key(self, index: int) -> str:
        _, key, factor = self._entries[index]
        return f"{key}@{factor:g}"

    def size(self, index: int) -> tuple[int, int]:
        path, _, factor = self._entries[index]
        return _reduced(picture_size(path), factor)

    def read(self, index: int) -> Picture:
        path, _, factor = self._entries[index]
        with _ONE_AT_A_TIME:  # the next factor of the same picture finds it in the cache
            samples = _smoothed(version_of(path), self.nlm if factor > 1 else 0.0, self.white)
            height, width = _reduced(samples.shape[:2], factor)
            reduced = cv2.resize(samples, (width, height), interpolation=cv2.INTER_AREA)
        return picture_of(reduced.reshape(height, width, -1))  # OpenCV drops a single channel


@lru_cache(maxsize=2)
def _smoothed(file: FileVersion, strength: float, white: White) -> np.ndarray:
    samples = kept_samples(read_picture(file.path, white=white))
    return non_local_means(samples, strength) if strength else samples


def non_local_means(samples: np.ndarray, strength: float) -> np.ndarray:
    """Smooth (H, W, 1) or (H, W, 3) samples by OpenCV's non-local means. The depth stays; floats become 16 bits.

    For 8 bits OpenCV takes the root mean square difference between neighbourhoods. For more bits it only has the mean
    absolute difference, and no colours. So L, a and b of CIELAB are smoothed here in the way in which it does that for
    8 bits.

    Args:
        strength: h, grey values of [0, 255]; for colour it is twice as large.
    """
    if samples.dtype == np.uint8 and samples.shape[2] == 3:
        return cv2.fastNlMeansDenoisingColored(samples, None, strength, 2 * strength, *_NLM_SIDES)
    if samples.dtype == np.uint8:
        return cv2.fastNlMeansDenoising(samples, None, strength, *_NLM_SIDES)[..., None]
    deep = to_depth(samples, np.uint16)
    if samples.shape[2] == 1:
        return _deep_means(deep, strength)
    lab = cv2.cvtColor(to_depth(deep, np.float32) / 255, cv2.COLOR_LBGR2Lab) * _LAB_SCALE + _LAB_OFFSET
    light, colour = (np.ascontiguousarray(to_depth(part, np.uint16)) for part in (lab[..., :1], lab[..., 1:]))
    smooth = np.dstack([_deep_means(light, strength), _deep_means(colour, 2 * strength)])
    lab = (to_depth(smooth, np.float32) - _LAB_OFFSET) / _LAB_SCALE
    return to_depth(cv2.cvtColor(lab, cv2.COLOR_Lab2LBGR) * 255, np.uint16)


def _deep_means(samples: np.ndarray, strength: float) -> np.ndarray:
    """Smooth (H, W, C) uint16 by non-local means of strength h, grey values of [0, 255]."""
    smooth = cv2.fastNlMeansDenoising(samples, [257 * _MEAN_OVER_ROOT * strength], None, *_NLM_SIDES, cv2.NORM_L1)
    return smooth.reshape(samples.shape)


def _reduced(size: Sequence[int], factor: float) -> tuple[int, int]:
    return max(1, int(size[0] / factor)), max(1, int(size[1] / factor))
