"""Nearly clean pictures out of noisy ones: reduced in size, which averages the noise away."""

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
_NLM_SIDES = (5, 15)
"""Sides of the neighbourhoods that are compared and of the window they are looked for in, pixels."""
_MEAN_OVER_ROOT = (2 / np.pi) ** 0.5
"""Mean absolute over root mean square of Gaussian differences."""
_LAB_SCALE, _LAB_OFFSET = np.array([2.55, 1, 1], np.float32), np.array([0, 128, 128], np.float32)
"""L, a and b as OpenCV keeps them in 8 bits, here with fractions."""
Factor = Annotated[float, Ge(1), Le(16)]


@DATASETS.register
class ReducedFolder(ImageSet):
    """Every picture of a folder, made smaller by each of ``factors`` (area averaging).

    Averaging f x f pixels divides the standard deviation of independent noise by f, and of a camera's correlated
    noise by less, while the detail a pixel grows: what is left is clean enough to put noise on and to learn from
    (``RenoiseModel``). Where it is not, non-local means before it (Buades et al., CVPR 2005) take off most of the rest,
    with some of the finest texture, of which the smaller picture shows little. What noise is left teaches a network to
    leave as much in the pictures it is given. A file is one picture of the set a factor; a factor of 1 is the noisy
    picture as it is (``RecorruptModel`` learns from both).

    Args:
        dataroot: a folder, searched recursively, or one picture file.
        factors: by which height and width are divided, 1 to 16.
        nlm: strength h of OpenCV's non-local means on the picture as it is, grey levels; twice that for colour; 0:
            none.
        min_side: pictures that would have a shorter side than this are left out, pixels.
        white: as ``NoisyFolder`` takes it.

    Raises:
        UserError: nothing there, or no picture is large enough.
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
        with _ONE_AT_A_TIME:  # OpenCV uses all cores for one picture; the next factor finds it done
            samples = _smoothed(version_of(path), self.nlm if factor > 1 else 0.0, self.white)
            height, width = _reduced(samples.shape[:2], factor)
            reduced = cv2.resize(samples, (width, height), interpolation=cv2.INTER_AREA)
        return picture_of(reduced.reshape(height, width, -1))  # OpenCV drops a single channel


@lru_cache(maxsize=2)
def _smoothed(file: FileVersion, strength: float, white: White) -> np.ndarray:
    samples = kept_samples(read_picture(file.path, white=white))
    return non_local_means(samples, strength) if strength else samples


def non_local_means(samples: np.ndarray, strength: float) -> np.ndarray:
    """OpenCV's non-local means of (H, W, 1) or (H, W, 3) samples, as deep as they are; floats get 16 bits.

    Of more than 8 bits OpenCV takes the mean absolute difference between neighbourhoods, where it takes the root mean
    square of 8 bits, and no colours: L, a and b of CIELAB are smoothed here as it does with those of 8 bits.

    Args:
        strength: h, in grey levels of 255; twice that for colour.
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
    """Denoise (H, W, C) uint16; h is in grey values of 255."""
    smooth = cv2.fastNlMeansDenoising(samples, [257 * _MEAN_OVER_ROOT * strength], None, *_NLM_SIDES, cv2.NORM_L1)
    return smooth.reshape(samples.shape)


def _reduced(size: Sequence[int], factor: float) -> tuple[int, int]:
    return max(1, int(size[0] / factor)), max(1, int(size[1] / factor))
