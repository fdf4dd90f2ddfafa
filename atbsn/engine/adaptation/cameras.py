"""Whether pictures are of one camera: by what their files say, and by their noise."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from atbsn.data.crops import PictureCrops
from atbsn.engine.evaluation.residual import Residual

MAX_DIFFERENCE = 0.15
"""Largest difference in the correlation of neighbouring pixels between pictures of one camera. In what ``real``
takes off it was up to 0.10 in one image of SIDD or one camera of PolyU, and 0.29 between PolyU's cameras."""


@dataclass(frozen=True)
class Cameras:
    """Who took the pictures.

    Attributes:
        named: how many pictures there are of each camera that files name (EXIF make and model).
        unnamed: how many pictures name none.
        noise_differs: the noise of the pictures that were judged is of several kinds.
    """

    named: dict[str, int]
    unnamed: int
    noise_differs: bool = False

    @property
    def are_several(self) -> bool:
        """Whether more than one camera took them. What files name counts; their noise, where some name nothing."""
        return len(self.named) > 1 or (self.unnamed > 0 and self.noise_differs)


def cameras_of(images: PictureCrops) -> Cameras:
    """What the files of the pictures say."""
    named = Counter(name for name in images.cameras if name is not None)
    return Cameras(dict(named.most_common()), images.cameras.count(None))


def noise_differs(residuals: Sequence[Residual], owners: Sequence[int]) -> bool:
    """Whether the noise that was taken off several pictures is of several kinds.

    A camera's demosaicing gives its noise one correlation between neighbouring pixels at any ISO. Its level tells
    nothing, since it changes with ISO and light, nor does the correlation between channels, which changed by 0.5
    between two crops of one photograph of PolyU. Cameras with like demosaicing are not told apart.

    Args:
        residuals: what one network took off crops of the pictures.
        owners: the picture of each.
    """
    by_picture: dict[int, list[float]] = {}
    for residual, owner in zip(residuals, owners, strict=True):
        if not math.isnan(residual.lag1):
            by_picture.setdefault(owner, []).append(residual.lag1)
    means = [fmean(values) for values in by_picture.values()]
    return bool(means) and max(means) - min(means) > MAX_DIFFERENCE
