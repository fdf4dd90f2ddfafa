"""PSNR and SSIM, each under a named protocol.

Published numbers are computed in incompatible ways (the protocol alone moves SSIM by 0.05), so a number
means nothing without its protocol: ``Metric.protocol`` is the text that logs and CSV headers carry.

Pictures are (H, W, 3) arrays, RGB, in [0, 255], of any real type; ``psnr``, and ``ssim`` by channels, take
(H, W, C). The value of a data set is the mean of
these values over its images.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Literal, get_args

import cv2
import numpy as np

from atbsn.utils.errors import UserError
from atbsn.utils.perceptual import Backbone, load_lpips, lpips_distance
from atbsn.utils.suggest import did_you_mean

SsimProtocol = Literal["y", "rgb", "uniform7", "volume"]

_PEAK = 255.0
_C1 = (0.01 * _PEAK) ** 2
_C2 = (0.03 * _PEAK) ** 2
_STRIP_ROWS = 64  # float64 exists for strips of this many rows only: they stay in the cache


def psnr(image: np.ndarray, reference: np.ndarray, round: bool = True, clip: bool = True) -> float:
    """Peak signal-to-noise ratio over all channels together, 10 log10(255^2 / MSE).

    The defaults judge the 8-bit picture that would be saved (AP-BSN, SDAP, TBSN, C-BSN). AT-BSN reports
    the float output as it is: ``round=False, clip=False``.

    Args:
        image: the prediction, (H, W, 3), RGB, [0, 255].
        reference: of the same shape.
        round: round both half up, floor(x + 0.5).
        clip: clip both to [0, 255].

    Returns:
        dB; infinite for identical pictures.

    Raises:
        UserError: the shapes differ or are not (H, W, C).
    """
    _check_shapes(image, reference, rgb=False)
    squared_error = 0.0
    for x, y in _strips(image, reference, round, clip):
        x -= y
        squared_error += float(np.vdot(x, x))
    if squared_error == 0:
        return math.inf
    return 10 * (math.log10(_PEAK**2) - math.log10(squared_error / image.size))


def ssim(
    image: np.ndarray,
    reference: np.ndarray,
    protocol: SsimProtocol = "y",
    round: bool = True,
    clip: bool = True,
) -> float:
    """Structural similarity (Wang et al., IEEE TIP 2004), K1 = 0.01, K2 = 0.03, peak 255.

    - ``y`` (AT-BSN): Gaussian 11x11, sigma 1.5, valid region, population covariance, on the luma of BT.601
      in [16, 235], MATLAB's ``rgb2ycbcr``. The peak stays 255, as in the scripts that report it. Luma is
      taken from the clipped and rounded picture and not rounded itself. AT-BSN's own figure is that of the
      float output: ``round=False, clip=False``.
    - ``rgb`` (BasicSR, SDAP, TBSN): the same on each channel, then the mean of the three.
    - ``uniform7`` (AP-BSN, LG-BPN, MM-BSN): uniform 7x7, valid region, sample covariance (49/48 of the
      population's), mean of the three channels: scikit-image's default.
    - ``volume`` (MPRNet, SASS): Gaussian 11x11x11, sigma 1.5, over the array as an H x W x 3 volume,
      borders replicated on all three axes, population covariance, mean over all voxels: what MATLAB's
      ``ssim`` makes of an RGB array.

    Args:
        image: the prediction, (H, W, 3), RGB, [0, 255].
        reference: of the same shape.
        protocol: one of the above.
        round: round both half up, floor(x + 0.5).
        clip: clip both to [0, 255].

    Raises:
        UserError: the shapes differ, are not (H, W, 3) or are smaller than the window; unknown protocol.
    """
    _check_protocol(protocol)
    _check_shapes(image, reference, rgb=protocol in ("y", "volume"))
    window = _WINDOWS[protocol]
    size, radius = len(window.kernel), len(window.kernel) // 2
    if window.depth is not None:
        borders = ((radius, radius), (radius, radius), (0, 0))
        image, reference = (np.pad(picture, borders, mode="edge") for picture in (image, reference))
    height, width, channels = image.shape
    if min(height, width) < size:
        raise UserError(f"a picture of {height}x{width}: ssim '{protocol}' needs at least {size}x{size}; leave it out")
    strips = _strips(image, reference, round, clip, halo=radius)
    total = sum(float(_ssim_map(x, y, window).sum()) for x, y in strips)
    return total / ((height - 2 * radius) * (width - 2 * radius) * (1 if window.luma else channels))


def lpips(
    image: np.ndarray, reference: np.ndarray, net: Backbone = "alex", round: bool = True, clip: bool = True
) -> float:
    """Learned perceptual distance (Zhang et al., CVPR 2018, arXiv 1801.03924), v0.1; needs the extra ``[lpips]``.

    0 for equal pictures; lower is better.

    Args:
        image: the prediction, (H, W, 3), RGB, [0, 255].
        reference: of the same shape.
        net: whose features are compared: ``alex`` as most papers, ``vgg`` or ``squeeze``.
        round: round both half up, floor(x + 0.5).
        clip: clip both to [0, 255].

    Raises:
        UserError: the shapes differ, are not (H, W, 3) or below 32 x 32; the extra or its backbone is not there.
    """
    _check_shapes(image, reference)
    return lpips_distance(_quantize(image, round, clip), _quantize(reference, round, clip), net)


METRICS: dict[str, Callable[..., float]] = {"psnr": psnr, "ssim": ssim, "lpips": lpips}
"""What ``val.metrics`` may name."""

ESTIMATED_PSNR = "estimated_psnr"
"""What may choose the best weights on a set without references (``atbsn.engine.evaluation.residual``)."""


@dataclass(frozen=True)
class Metric:
    """``metric(image, reference)`` is the value of one picture, as ``psnr`` and ``ssim`` take it."""

    function: Callable[[np.ndarray, np.ndarray], float]
    protocol: str
    """Which number this is, for people: ``psnr (RGB, clipped, rounded)``."""
    higher_is_better: bool = True

    def __call__(self, image: np.ndarray, reference: np.ndarray) -> float:
        return self.function(image, reference)


def build_metric(options: Mapping[str, Any]) -> Metric:
    """The metric of an option file: ``{"type": "ssim", "protocol": "y", "round": False, "clip": False}``.

    Raises:
        UserError: unknown type, argument or value.
    """
    arguments = dict(options)
    name = str(arguments.pop("type", None))
    if name not in METRICS:
        raise UserError(f"type: '{name}' is not a metric; {did_you_mean(name, METRICS)}")
    known = list(signature(METRICS[name]).parameters)[2:]
    for key, value in arguments.items():
        if key not in known:
            raise UserError(f"{key}: unknown argument of metric '{name}'; {did_you_mean(str(key), known)}")
        if key == "protocol":
            _check_protocol(value)
        elif key == "net":
            if value not in get_args(Backbone):
                raise UserError(f"net: {value!r} is not a backbone; use {', '.join(get_args(Backbone))}")
        elif not isinstance(value, bool):
            raise UserError(f"{key}: {value!r} is not a truth value; use true or false")
    if name == "lpips":
        backbone = arguments.get("net", "alex")
        load_lpips(backbone)  # what is missing is said now, not after hours of training
        subject = f"v0.1, {backbone}"
    else:
        subject = "RGB" if name == "psnr" else _WINDOWS[arguments.get("protocol", "y")].text
    clipped = "clipped" if arguments.get("clip", True) else "not clipped"
    rounded = "rounded" if arguments.get("round", True) else "not rounded"
    protocol = f"{name} ({subject}, {clipped}, {rounded})"
    return Metric(partial(METRICS[name], **arguments), protocol, higher_is_better=name != "lpips")


@dataclass(frozen=True)
class _Window:
    """How one SSIM protocol takes its local means."""

    text: str
    kernel: np.ndarray
    """The window along one axis of the picture; sums to 1."""
    covariance_norm: float = 1.0
    luma: bool = False
    depth: np.ndarray | None = None
    """(3, 3): the window along the channels, whose ends are replicated; None where channels are separate."""


def _gaussian(size: int, sigma: float) -> np.ndarray:
    kernel = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    return kernel / kernel.sum()


def _replicated(kernel: np.ndarray, length: int) -> np.ndarray:
    """``kernel`` as a matrix along an axis of ``length`` samples whose ends are replicated."""
    radius = len(kernel) // 2
    taps = np.pad(np.eye(length), ((radius, radius), (0, 0)), mode="edge")
    return np.stack([kernel @ taps[i : i + len(kernel)] for i in range(length)])


_GAUSSIAN = _gaussian(11, 1.5)
_WINDOWS = {
    "y": _Window("Gaussian 11x11, BT.601 luma", _GAUSSIAN, luma=True),
    "rgb": _Window("Gaussian 11x11, RGB", _GAUSSIAN),
    "uniform7": _Window("uniform 7x7, RGB", np.full(7, 1 / 7), covariance_norm=49 / 48),
    "volume": _Window("Gaussian 11x11x11, RGB volume", _GAUSSIAN, depth=_replicated(_GAUSSIAN, 3)),
}
_LUMA = np.array([[65.481, 128.553, 24.966, 16 * 255]]) / 255  # BT.601 in [16, 235]; the last one is added


def _ssim_map(x: np.ndarray, y: np.ndarray, window: _Window) -> np.ndarray:
    """SSIM of every window that lies inside two strips (h, w, 3), float64."""
    if window.luma:
        x, y = cv2.transform(x, _LUMA), cv2.transform(y, _LUMA)
    radius = len(window.kernel) // 2

    def mean(values: np.ndarray) -> np.ndarray:
        values = cv2.sepFilter2D(values, -1, window.kernel, window.kernel)[radius:-radius, radius:-radius]
        return values if window.depth is None else cv2.transform(values, window.depth)

    mean_x, mean_y = mean(x), mean(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = window.covariance_norm * (mean(x * y) - product)
    variances = window.covariance_norm * (mean(x**2 + y**2) - squares)  # only their sum is ever needed
    return (2 * product + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))


def _strips(
    image: np.ndarray, reference: np.ndarray, round: bool, clip: bool, halo: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Both pictures as new float64 strips that share ``2 * halo`` rows with their neighbours."""
    last = len(image) - 2 * halo
    for top in range(0, last, _STRIP_ROWS):
        rows = slice(top, min(top + _STRIP_ROWS, last) + 2 * halo)
        yield _quantize(image[rows], round, clip), _quantize(reference[rows], round, clip)


def _quantize(picture: np.ndarray, round: bool, clip: bool) -> np.ndarray:
    """A float64 copy, rounded half up and clipped as asked."""
    values = picture.astype(np.float64)
    if picture.dtype != np.uint8:
        if round:
            values += 0.5
            np.floor(values, out=values)
        if clip:
            np.clip(values, 0, _PEAK, out=values)
    return values


def _check_shapes(image: np.ndarray, reference: np.ndarray, rgb: bool = True) -> None:
    if image.shape != reference.shape or image.ndim != 3 or not image.size or (rgb and image.shape[2] != 3):
        raise UserError(
            f"pictures of shapes {image.shape} and {reference.shape} cannot be compared; "
            f"give two (H, W, {3 if rgb else 'C'}) arrays of one size"
        )


def _check_protocol(protocol: object) -> None:
    if protocol not in get_args(SsimProtocol):
        near = did_you_mean(str(protocol), get_args(SsimProtocol))
        raise UserError(f"protocol: '{protocol}' is not an SSIM protocol; {near}")
