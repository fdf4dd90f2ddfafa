"""Nearly clean pictures out of noisy ones: reduced in size, which averages the noise away."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import cv2
import numpy as np
from annotated_types import Ge, Le, MinLen

from atbsn.data.base import ImageSet
from atbsn.data.folder import relative_keys, write_examples
from atbsn.pictures import Picture, image_paths, picture_size, read_picture
from atbsn.registry import DATASETS
from atbsn.utils.errors import UserError
from atbsn.utils.types import NonNegativeFloat, PositiveInt

_ONE_AT_A_TIME = Lock()
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

    Raises:
        UserError: nothing there, or no picture is large enough.
    """

    def __init__(
        self,
        dataroot: str | Path,
        factors: Annotated[Sequence[Factor], MinLen(1)] = (2.5, 3.0, 4.0),
        nlm: NonNegativeFloat = 0.0,
        min_side: PositiveInt = 128,
    ) -> None:
        self.nlm = nlm
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
            rgb = _smoothed(path, self.nlm if factor > 1 else 0.0)
        height, width = _reduced(rgb.shape[:2], factor)
        return Picture(np.ascontiguousarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)))


@lru_cache(maxsize=2)
def _smoothed(path: Path, strength: float) -> np.ndarray:
    rgb = read_picture(path).rgb8()
    if not strength:
        return rgb
    return cv2.fastNlMeansDenoisingColored(rgb, None, strength, 2 * strength, 5, 15)


def _reduced(size: Sequence[int], factor: float) -> tuple[int, int]:
    return max(1, int(size[0] / factor)), max(1, int(size[1] / factor))
