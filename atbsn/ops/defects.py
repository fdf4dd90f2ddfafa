"""Defects of sensors that are not noise: hot pixels, and rows and columns with an offset of their own (banding)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.ops.padding import reflect_pad

_REACH, _SPOT = 3, 1
"""Pixels: distance up to which pixels belong to the surroundings of a pixel, and distance over which demosaicing
spreads a hot pixel. Pixels within ``_SPOT`` do not belong to the surroundings. Chosen by hand."""
_MIN_DEVIATIONS, _MIN_SPREAD_DEVIATIONS = 6.0, 3.0
"""Standard deviations of the surroundings by which a pixel must differ from their median to be a defect, and by which a
neighbour of a defect must differ to be part of it. Two samples of Gaussian noise in 10^9 differ by more than 6. The
standard deviation that is estimated from 40 pixels is right to about 15 %. Chosen by hand."""
_MIN_ISOLATION = 2.0
"""Least ratio of a defect's difference from the median to the second largest one in its surroundings, on the same side.
So lines stay, and another defect near by does not matter. Chosen by hand."""
_MIN_HEIGHT = 12.0
"""Grey values: least difference of a defect from the median. To a network, less looks like noise. Chosen by hand."""
_MAX_STEPS = 2**20
"""About the most steps from pixel to pixel of which the median is taken; a larger channel is sampled."""
_MAD = 1.4826
"""Standard deviation of a Gaussian divided by the median of its absolute values (median absolute deviation, MAD)."""

_SEGMENTS = 12
"""Number of segments of a row; each gives one estimate of the row's offset. Chosen by hand."""
_MIN_SEGMENT = 32
"""Pixels: shortest segment. The median of fewer noisy pixels says little. Chosen by hand."""
_WINDOW = 33
"""Rows: window whose median a row is compared with; an odd number, with the row in its middle. Chosen by hand."""
_MAX_DEVIATIONS = 4.0
"""Largest offset that is taken for banding, in standard deviations of all offsets. Offsets of a sensor's rows are
Gaussian; larger ones come from edges and lines of the scene, which are few. Chosen by hand."""


@torch.no_grad()
def replace_hot_pixels(x: Tensor) -> Tensor:
    """Replace single pixels that differ much from their surroundings by the median of these, in each channel.

    The surroundings are the 40 pixels of the 7 x 7 around a pixel that are not among its 3 x 3. A pixel is a defect if
    it is the largest or the smallest of its 3 x 3 and differs from the median of its surroundings by

    - 6 times their standard deviation (from their median absolute deviation, and at least as large as that from pixel
      to pixel in the whole channel),
    - twice the second largest difference in its surroundings on the same side, and
    - 12 grey values,

    and if it differs from the mean of its 3 x 3 by 6 grey values.

    Its eight neighbours are replaced too if they differ to the same side by 3 standard deviations, because demosaicing
    spreads a hot pixel over them.

    Args:
        x: (B, C, H, W), [0, 255]. Pictures with a side of less than 4 pixels are returned unchanged.
    """
    height, width = x.shape[-2:]
    if min(height, width) <= _REACH:
        return x
    planes = x.reshape(-1, height, width)
    result = planes.clone()
    for plane, out in zip(planes, result, strict=True):
        _repair_plane(plane, out)
    return result.view(x.shape)


def _repair_plane(plane: Tensor, out: Tensor) -> None:
    """Write the repaired pixels of (H, W) into ``out``."""
    height, width = plane.shape
    padded = reflect_pad(plane[None, None], *[_REACH] * 4)
    inner = padded[..., _REACH - 1 : 1 - _REACH, _REACH - 1 : 1 - _REACH]
    highest = F.max_pool2d(inner, 3, 1)[0, 0] == plane
    lowest = -F.max_pool2d(-inner, 3, 1)[0, 0] == plane
    mean = F.avg_pool2d(inner, 3, 1)[0, 0]
    # Bilinear demosaicing makes 3 x 3 pixels of the mean 4/9 h of a defect of height h, so it differs by over h / 2.
    rows, columns = ((highest | lowest) & ((plane - mean).abs() > _MIN_HEIGHT / 2)).nonzero(as_tuple=True)
    if not len(rows):
        return
    side = 2 * _REACH + 1
    around = [
        padded[0, 0, rows + down, columns + right]
        for down in range(side)
        for right in range(side)
        if max(abs(down - _REACH), abs(right - _REACH)) > _SPOT
    ]
    ring = torch.stack(around, dim=1)
    median = ring.median(dim=1).values
    spread = _MAD * (ring - median[:, None]).abs().median(dim=1).values
    step = (plane[:, 1:] - plane[:, :-1]).abs().flatten()
    usual = _MAD / 2**0.5 * step[:: max(1, step.numel() // _MAX_STEPS)].median()
    spread = spread.maximum(usual)
    off = plane[rows, columns] - median
    furthest = ((ring - median[:, None]) * off.sign()[:, None]).topk(2, dim=1).values[:, 1]
    bad = off.abs() > torch.maximum(_MIN_DEVIATIONS * spread, _MIN_ISOLATION * furthest).clamp(min=_MIN_HEIGHT)
    rows, columns, median, spread, side_of = (t[bad] for t in (rows, columns, median, spread, off.sign()))
    for down in range(-_SPOT, _SPOT + 1):
        for right in range(-_SPOT, _SPOT + 1):
            own = (rows + down >= 0) & (rows + down < height) & (columns + right >= 0) & (columns + right < width)
            row, column = rows[own] + down, columns[own] + right
            beyond = (plane[row, column] - median[own]) * side_of[own] > _MIN_SPREAD_DEVIATIONS * spread[own]
            out[row[beyond], column[beyond]] = median[own][beyond]


@torch.no_grad()
def remove_banding(x: Tensor) -> Tensor:
    """Subtract the offsets of whole rows, then those of whole columns, from every channel of ``x`` (B, C, H, W).

    A row is cut into 12 segments. The median of a segment, less the median of that segment in the 33 rows around, is
    one estimate of the row's offset. The median of the 12 estimates is the offset: what differs from segment to segment
    belongs to the scene. Offsets are scaled down by the share of their variance that the sampling error of the
    estimates explains. Offsets of more than 4 standard deviations belong to the scene too. A scene of straight lines
    along the rows cannot be told from banding.

    The rows of pictures with a width of less than 384 pixels or a height of less than 33 are left as they are, and
    likewise the columns.
    """
    x = x - row_offsets(x).unsqueeze(-1)
    return x - row_offsets(x.mT).unsqueeze(-2)


def row_offsets(x: Tensor) -> Tensor:
    """Estimate the offsets of the rows of ``x`` (B, C, H, W) that ``remove_banding`` subtracts: (B, C, H)."""
    height, width = x.shape[-2:]
    length = width // _SEGMENTS
    if length < _MIN_SEGMENT or height < _WINDOW:
        return x.new_zeros(x.shape[:-1])
    segments = x[..., : length * _SEGMENTS].unflatten(-1, (_SEGMENTS, length)).median(dim=-1).values
    half = _WINDOW // 2
    estimates = segments - reflect_pad(segments, 0, 0, half, half).unfold(-2, _WINDOW, 1).median(dim=-1).values
    offsets = estimates.median(dim=-1).values
    deviation = _MAD * (estimates - offsets.unsqueeze(-1)).abs().median(dim=-1).values
    # The sampling variance of the median of n Gaussian numbers is pi / (2 n) times their variance.
    sampling_variance = (torch.pi / 2 / _SEGMENTS) * deviation.square().mean(dim=-1, keepdim=True)
    variance = (_MAD * offsets.abs().median(dim=-1, keepdim=True).values).square()
    share = (1 - sampling_variance / variance.clamp(min=1e-6)).clamp(min=0)
    return share * offsets * (offsets.square() <= _MAX_DEVIATIONS**2 * variance)
