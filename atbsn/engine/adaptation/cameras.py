"""Whether pictures are of one camera: by what their files say, and by their noise."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from atbsn.data.crops import PictureCrops
from atbsn.engine.evaluation.residual import Residual

MAX_DIFFERENCE = 0.25
"""Largest difference between pictures, in the correlation of neighbouring pixels or of channels, that one camera's
have."""


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

    A camera's noise has one correlation between neighbouring pixels and one between channels at any ISO, since its
    demosaicing makes them; its level changes with ISO and light, so that it tells nothing.

    Args:
        residuals: what one network took off crops of the pictures.
        owners: the picture of each.
    """
    for measure in ("lag1", "channels"):
        by_picture: dict[int, list[float]] = {}
        for residual, owner in zip(residuals, owners, strict=True):
            value = getattr(residual, measure)
            if not math.isnan(value):
                by_picture.setdefault(owner, []).append(value)
        means = [sum(values) / len(values) for values in by_picture.values()]
        if means and max(means) - min(means) > MAX_DIFFERENCE:
            return True
    return False
