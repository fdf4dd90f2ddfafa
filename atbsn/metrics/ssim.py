"""Structural similarity (Wang et al., IEEE TIP 2004), in the ways that papers compute it."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import cv2
import numpy as np

from atbsn.metrics.base import PEAK, Metric, Rounding, check_shapes, check_sides, in_words, strips
from atbsn.registry import METRICS
from atbsn.utils.errors import UserError
from atbsn.utils.suggest import did_you_mean

SsimProtocol = Literal["y", "rgb", "uniform7", "volume", "channels"]

_C1, _C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
"""Grey values squared: the constants (K1 L)^2 and (K2 L)^2 of Wang et al., IEEE TIP 2004, equation 13."""


def ssim(
    image: np.ndarray,
    reference: np.ndarray,
    protocol: SsimProtocol = "y",
    round: Rounding = True,
    clip: bool = True,
) -> float:
    """Structural similarity (Wang et al., IEEE TIP 2004), K1 = 0.01, K2 = 0.03, peak 255.

    - ``y`` (AT-BSN): Gaussian 11x11, sigma 1.5, valid region, population covariance, on the luma of BT.601 in
      [16, 235], MATLAB's ``rgb2ycbcr``. The peak stays 255, as in the scripts that papers use. Luma is computed from
      the clipped and rounded picture and is not rounded itself. AT-BSN's own figure is that of the float output:
      ``round=False, clip=False``.
    - ``rgb`` (BasicSR, SDAP, TBSN, APR-RD): the same on each channel, then the mean of the three.
    - ``uniform7`` (AP-BSN, LG-BPN, MM-BSN): uniform 7x7, valid region, sample covariance (49/48 of the population's),
      mean of the three channels: scikit-image's default.
    - ``volume`` (MPRNet, SASS): Gaussian 11x11x11, sigma 1.5, over the array as an H x W x 3 volume, borders replicated
      on all three axes, population covariance, mean over all voxels: what MATLAB's ``ssim`` computes for an RGB array.
    - ``channels``: as ``rgb``, for any number of channels.

    Args:
        image: the prediction, (H, W, 3), RGB, [0, 255]; for ``rgb``, ``uniform7`` and ``channels`` also (H, W, C).
        reference: a picture of the same shape.
        protocol: one of the above.
        round: round both half up, floor(x + 0.5), or ``"down"``.
        clip: clip both to [0, 255].

    Raises:
        UserError: the shapes differ, do not suit the protocol or are smaller than the window; or there is no such
            protocol.
    """
    if protocol not in get_args(SsimProtocol):
        near = did_you_mean(str(protocol), get_args(SsimProtocol))
        raise UserError(f"protocol: '{protocol}' is not an SSIM protocol; {near}")
    check_shapes(image, reference, rgb=protocol in _OF_RGB)
    window = _WINDOWS[protocol]
    size, radius = len(window.kernel), len(window.kernel) // 2
    if window.depth is not None:
        borders = ((radius, radius), (radius, radius), (0, 0))
        image, reference = (np.pad(picture, borders, mode="edge") for picture in (image, reference))
    height, width, channels = image.shape
    check_sides(f"ssim '{protocol}'", height, width, size)
    parts = strips(image, reference, round=round, clip=clip, halo=radius)
    total = sum(float(_ssim_map(x, y, window).sum()) for x, y in parts)
    return total / ((height - 2 * radius) * (width - 2 * radius) * (1 if window.luma else channels))


@METRICS.register
class SSIM(Metric):
    """Structural similarity (Wang et al., IEEE TIP 2004), K1 = 0.01, K2 = 0.03, peak 255.

    Args:
        protocol: ``y`` (AT-BSN), ``rgb`` (BasicSR, SDAP, TBSN, APR-RD), ``uniform7`` (AP-BSN, LG-BPN, MM-BSN),
            ``volume`` (MPRNet, SASS) or ``channels``; the function ``ssim`` says what they are. Pictures with other
            than three channels are measured by ``channels`` in place of ``y`` and ``rgb``.
        round: round both half up, floor(x + 0.5), or ``down``.
        clip: clip both to [0, 255].
    """

    def __init__(self, protocol: SsimProtocol = "y", round: Rounding = True, clip: bool = True) -> None:
        self.kind, self.round, self.clip = protocol, round, clip

    @property
    def protocol(self) -> str:
        return f"ssim ({_WINDOWS[self.kind].text}, {in_words(round=self.round, clip=self.clip)})"

    def suited(self, channels: int) -> Metric:
        if channels != 3 and self.kind in ("y", "rgb"):
            return SSIM("channels", self.round, self.clip)
        return self

    def check_size(self, height: int, width: int, channels: int) -> None:
        if self.kind in _OF_RGB and channels != 3:
            raise UserError(f"pictures of {channels} channels: ssim '{self.kind}' is of RGB; use protocol: channels")
        if _WINDOWS[self.kind].depth is None:
            check_sides(f"ssim '{self.kind}'", height, width, len(_WINDOWS[self.kind].kernel))

    def __call__(self, image: np.ndarray, reference: np.ndarray) -> float:
        return ssim(image, reference, self.kind, self.round, self.clip)


@dataclass(frozen=True)
class _Window:
    """The local means of one SSIM protocol.

    Attributes:
        text: the protocol in words.
        kernel: the window along one axis of the picture; it sums to 1.
        covariance_norm: factor on the covariance of the population.
        luma: whether the luma is measured, not the channels.
        depth: (3, 3), the window along the channels, whose ends are replicated; None if channels are separate.
    """

    text: str
    kernel: np.ndarray
    covariance_norm: float = 1.0
    luma: bool = False
    depth: np.ndarray | None = None


def _gaussian(size: int, sigma: float) -> np.ndarray:
    kernel = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    return kernel / kernel.sum()


def _replicated(kernel: np.ndarray, length: int) -> np.ndarray:
    """Make a matrix that applies ``kernel`` along an axis of ``length`` samples whose ends are replicated."""
    radius = len(kernel) // 2
    taps = np.pad(np.eye(length), ((radius, radius), (0, 0)), mode="edge")
    return np.stack([kernel @ taps[i : i + len(kernel)] for i in range(length)])


_GAUSSIAN = _gaussian(11, 1.5)
"""Window of Wang et al.: 11 taps, standard deviation 1.5 pixels."""
# The windows of each protocol, as ``ssim`` describes them.
_WINDOWS = {
    "y": _Window("Gaussian 11x11, BT.601 luma", _GAUSSIAN, luma=True),
    "rgb": _Window("Gaussian 11x11, RGB", _GAUSSIAN),
    "uniform7": _Window("uniform 7x7, RGB", np.full(7, 1 / 7), covariance_norm=49 / 48),
    "volume": _Window("Gaussian 11x11x11, RGB volume", _GAUSSIAN, depth=_replicated(_GAUSSIAN, 3)),
}
_WINDOWS["channels"] = replace(_WINDOWS["rgb"], text="Gaussian 11x11, each channel")
_OF_RGB = ("y", "volume")
"""Protocols that need RGB."""
_LUMA = np.array([[65.481, 128.553, 24.966, 16 * 255]]) / 255
"""BT.601 luma in [16, 235] of RGB in [0, 255]: three weights, and an offset."""


def _ssim_map(x: np.ndarray, y: np.ndarray, window: _Window) -> np.ndarray:
    """Compute SSIM for every window that lies inside of two strips (h, w, C), float64."""
    if window.luma:
        x, y = cv2.transform(x, _LUMA), cv2.transform(y, _LUMA)
    radius = len(window.kernel) // 2

    def mean(values: np.ndarray) -> np.ndarray:
        values = cv2.sepFilter2D(values, -1, window.kernel, window.kernel)[radius:-radius, radius:-radius]
        return values if window.depth is None else cv2.transform(values, window.depth)

    mean_x, mean_y = mean(x), mean(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = window.covariance_norm * (mean(x * y) - product)
    variances = window.covariance_norm * (mean(x**2 + y**2) - squares)  # only the sum of the two is needed
    return (2 * product + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))
