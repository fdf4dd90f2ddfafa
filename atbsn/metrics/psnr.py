"""Peak signal-to-noise ratio."""

import math

import numpy as np

from atbsn.metrics.base import PEAK, Metric, Rounding, check_shapes, in_words, strips
from atbsn.registry import METRICS


def psnr(image: np.ndarray, reference: np.ndarray, round: Rounding = True, clip: bool = True) -> float:
    """Peak signal-to-noise ratio over all channels together, 10 log10(255^2 / MSE), in dB; infinite for equal pictures.

    The defaults judge the 8-bit picture that would be saved (AP-BSN, SDAP, TBSN, C-BSN). AT-BSN reports the float
    output as it is: ``round=False, clip=False``. APR-RD casts it to 8 bits, which rounds down: ``round="down"``.

    Args:
        image: the prediction, (H, W, C), [0, 255].
        reference: a picture of the same shape.
        round: round both half up, floor(x + 0.5), or ``"down"``.
        clip: clip both to [0, 255].

    Raises:
        UserError: the shapes differ or are not (H, W, C).
    """
    check_shapes(image, reference, rgb=False)
    squared_error = 0.0
    for x, y in strips(image, reference, round=round, clip=clip):
        x -= y
        squared_error += float(np.vdot(x, x))
    if squared_error == 0:
        return math.inf
    return 10 * (math.log10(PEAK**2) - math.log10(squared_error / image.size))


@METRICS.register
class PSNR(Metric):
    """Peak signal-to-noise ratio over all channels together, 10 log10(255^2 / MSE), in dB.

    The defaults judge the 8-bit picture that would be saved (AP-BSN, SDAP, TBSN, C-BSN). AT-BSN reports the float
    output as it is: ``{round: false, clip: false}``. APR-RD casts it to 8 bits, which rounds down: ``{round: down}``.

    Args:
        round: round both half up, floor(x + 0.5), or ``down``.
        clip: clip both to [0, 255].
    """

    digits = 2

    def __init__(self, round: Rounding = True, clip: bool = True) -> None:
        self.round, self.clip = round, clip

    @property
    def protocol(self) -> str:
        return f"psnr (RGB, {in_words(round=self.round, clip=self.clip)})"

    def __call__(self, image: np.ndarray, reference: np.ndarray) -> float:
        return psnr(image, reference, self.round, self.clip)
