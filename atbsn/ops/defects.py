"""Defects of sensors that are no noise: single pixels far off, and rows and columns with an offset of their own."""

import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.ops.padding import reflect_pad

_REACH, _SPOT = 3, 1
"""Pixels around a pixel that are its surroundings, and those next to it that demosaicing smears a hot pixel over."""
_FAR, _SMEARED = 6.0, 3.0
"""Standard deviations of the surroundings beyond which a pixel is a defect, and those next to one are part of it. Of
Gaussian noise two pixels in 10^9 are further off than 6; the spread of 40 of them is told to about 15 %."""
_ALONE = 2.0
"""How often as far off as the surroundings (all but one pixel of them: another defect) it is, so lines stay."""
_LEAST_HEIGHT = 12.0
"""Grey values by which a defect stands out at least: less is noise to the network."""
_MAD = 1.4826
"""Standard deviation of a Gaussian over the median of its absolute values."""

_SEGMENTS = 12
"""Parts of a row that each have an opinion on its offset."""
_SHORTEST = 32
"""Pixels of the shortest such part: the median of fewer says little where there is noise."""
_WINDOW = 33
"""Rows that an offset is told against: half of them are as likely above as below."""
_MOST = 4.0
"""Standard deviations of the offsets, from their median absolute value, beyond which one is the scene's: offsets of a
sensor's rows are Gaussian, edges and lines of a scene are few."""


@torch.no_grad()
def replace_hot_pixels(x: Tensor) -> Tensor:
    """Give single pixels that are far off their surroundings, in any one channel, the median of these.

    The surroundings are the 40 pixels of 7 x 7 around 3 x 3. A pixel is a defect where it is the largest or smallest
    of its 3 x 3, and further from their median than ``_FAR`` times their spread (median absolute deviation, at least
    that of the whole channel from pixel to pixel) and than ``_LEAST_HEIGHT``. Its eight neighbours go with it where
    they are off to the same side, as demosaicing leaves them.

    Args:
        x: (B, C, H, W), [0, 255]; pictures of less than 4 pixels a side come back as they are.
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
    # Beside a defect of height h the mean of 3 x 3 is at most 4/9 h off, as bilinear demosaicing makes it.
    rows, columns = ((highest | lowest) & ((plane - mean).abs() > _LEAST_HEIGHT / 2)).nonzero(as_tuple=True)
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
    usual = _MAD / 2**0.5 * step[:: max(1, step.numel() // 2**20)].median()
    spread = spread.maximum(usual)
    off = plane[rows, columns] - median
    furthest = ((ring - median[:, None]) * off.sign()[:, None]).topk(2, dim=1).values[:, 1]
    bad = off.abs() > torch.maximum(_FAR * spread, _ALONE * furthest).clamp(min=_LEAST_HEIGHT)
    rows, columns, median, spread, side_of = (t[bad] for t in (rows, columns, median, spread, off.sign()))
    for down in range(-_SPOT, _SPOT + 1):
        for right in range(-_SPOT, _SPOT + 1):
            own = (rows + down >= 0) & (rows + down < height) & (columns + right >= 0) & (columns + right < width)
            row, column = rows[own] + down, columns[own] + right
            beyond = (plane[row, column] - median[own]) * side_of[own] > _SMEARED * spread[own]
            out[row[beyond], column[beyond]] = median[own][beyond]


@torch.no_grad()
def remove_banding(x: Tensor) -> Tensor:
    """Take the offsets of whole rows, then those of whole columns, off every channel of ``x`` (B, C, H, W).

    A row is cut into 12 segments. The median of a segment less the median of those of the 33 rows around is one opinion
    on the row's offset, and their median over the row is the offset: what is not the same from end to end is the
    scene's. Offsets are made smaller by the share of their variance that segments differing by chance explain; those
    beyond ``_MOST`` of their standard deviations are the scene's, too. A scene that is made of straight lines along
    the rows cannot be told from banding.

    Pictures of less than 384 pixels along the rows, or of less than 33 rows, keep their rows; the same for columns.
    """
    x = x - row_offsets(x).unsqueeze(-1)
    return x - row_offsets(x.mT).unsqueeze(-2)


def row_offsets(x: Tensor) -> Tensor:
    """The offsets of the rows of ``x`` (B, C, H, W): (B, C, H), as ``remove_banding`` takes them off."""
    height, width = x.shape[-2:]
    length = width // _SEGMENTS
    if length < _SHORTEST or height < _WINDOW:
        return x.new_zeros(x.shape[:-1])
    segments = x[..., : length * _SEGMENTS].unflatten(-1, (_SEGMENTS, length)).median(dim=-1).values
    half = _WINDOW // 2
    opinions = segments - reflect_pad(segments, 0, 0, half, half).unfold(-2, _WINDOW, 1).median(dim=-1).values
    offsets = opinions.median(dim=-1).values
    apart = _MAD * (opinions - offsets.unsqueeze(-1)).abs().median(dim=-1).values
    chance = (torch.pi / 2 / _SEGMENTS) * apart.square().mean(dim=-1, keepdim=True)
    variance = (_MAD * offsets.abs().median(dim=-1, keepdim=True).values).square()
    share = (1 - chance / variance.clamp(min=1e-6)).clamp(min=0)
    return share * offsets * (offsets.square() <= _MOST**2 * variance)
