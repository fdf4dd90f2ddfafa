"""Whether pictures were taken by one camera, judged by what their files say and by their noise."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from atbsn.data.crops import PictureCrops
from atbsn.engine.evaluation.residual import Residual

MAX_DIFFERENCE = 0.15
"""Largest difference between the correlations of neighbouring pixels in the noise of pictures of one camera. In what
``real`` takes off, the difference was up to 0.10 within one image of SIDD or one camera of PolyU, and 0.29 between
PolyU's cameras."""


@dataclass(frozen=True)
class Cameras:
    """The cameras that took some pictures.

    Attributes:
        named: number of pictures by camera, as their files name it (EXIF make and model).
        unnamed: number of pictures whose files name no camera.
        noise_differs: whether the pictures that were judged have noise of several kinds.
    """

    named: dict[str, int]
    unnamed: int
    noise_differs: bool = False

    @property
    def are_several(self) -> bool:
        """Whether more than one camera took them: the files name several, or some name none and the noise differs."""
        return len(self.named) > 1 or (self.unnamed > 0 and self.noise_differs)


def cameras_of(images: PictureCrops) -> Cameras:
    """Read the cameras of ``images`` from their files."""
    named = Counter(name for name in images.cameras if name is not None)
    return Cameras(dict(named.most_common()), images.cameras.count(None))


def noise_differs(residuals: Sequence[Residual], owners: Sequence[int]) -> bool:
    """Whether the noise that was taken off several pictures is of several kinds.

    The demosaicing of a camera gives its noise the same correlation between neighbouring pixels at any ISO. The level
    says nothing, since it changes with ISO and light. Nor does the correlation between channels, which differed by 0.5
    between two crops of one photograph of PolyU. Cameras with similar demosaicing are not told apart.

    Args:
        residuals: what one network took off crops of the pictures.
        owners: index of the picture of each crop.
    """
    by_picture: dict[int, list[float]] = {}
    for residual, owner in zip(residuals, owners, strict=True):
        if not math.isnan(residual.lag1):
            by_picture.setdefault(owner, []).append(residual.lag1)
    means = [fmean(values) for values in by_picture.values()]
    return bool(means) and max(means) - min(means) > MAX_DIFFERENCE
