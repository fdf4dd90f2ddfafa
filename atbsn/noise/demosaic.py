"""Bayer mosaics, and three methods of demosaicing that cameras use."""

import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.ops.constant import Constant

_CROSS_KERNEL = torch.tensor([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
_SQUARE_KERNEL = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
_CROSS, _SQUARE = Constant(_CROSS_KERNEL[None, None]), Constant(_SQUARE_KERNEL[None, None])
"""Kernels of bilinear interpolation from the pixels of a mosaic: of green, and of red or blue."""
_BILINEAR = Constant(torch.stack((_SQUARE_KERNEL, _CROSS_KERNEL, _SQUARE_KERNEL))[:, None])
"""The same kernels for red, green and blue."""
_ALONG = torch.tensor([[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]])
_MALVAR = Constant(
    torch.stack(
        (
            torch.tensor([[0, 0, -1.0, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]]),
            torch.tensor(
                [[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]]
            ),
            _ALONG,
            _ALONG.T,
        )
    )[:, None]
    / 8
)
"""Malvar's filters: green at red or blue; red at blue and blue at red; a colour at green, along; across."""


def bayer_pattern(phases: Tensor, height: int, width: int) -> Tensor:
    """Make Bayer masks (B, 3, height, width): 1 where a pixel of the mosaic has this colour, otherwise 0.

    Args:
        phases: (B,) integers, 0 to 3: RGGB, GRBG, GBRG, BGGR. Bit 0 shifts RGGB by a column, bit 1 by a row.
    """
    rows = torch.arange(height, device=phases.device)[:, None]
    columns = torch.arange(width, device=phases.device)
    row = (rows + (phases // 2).view(-1, 1, 1)) % 2
    column = (columns + phases.view(-1, 1, 1)) % 2
    return torch.stack(((row + column) == 0, (row + column) == 1, (row + column) == 2), dim=1).float()


def demosaic_bilinear(raw: Tensor, bayer: Tensor) -> Tensor:
    """Interpolate each channel of the mosaic ``raw`` (B, 1, H, W) bilinearly: (B, 3, H, W)."""
    return F.conv2d(F.pad(raw * bayer, (1,) * 4, mode="reflect"), _BILINEAR.like(raw), groups=3)


def demosaic_edges(raw: Tensor, bayer: Tensor) -> Tensor:
    """Interpolate green with the Laplacian of the pixel's own colour, and red and blue by their difference to green.

    ``raw`` (B, 1, H, W) -> (B, 3, H, W).
    """
    red, green, blue = bayer.split(1, dim=1)
    around = F.pad(raw, (2,) * 4, mode="reflect")
    own = (
        around[..., :-4, 2:-2] + around[..., 4:, 2:-2] + around[..., 2:-2, :-4] + around[..., 2:-2, 4:]
    ) / 4  # fmt: skip
    interpolated = _interpolate(raw * green, _CROSS) + (raw - own) / 2
    full = torch.where(green > 0, raw, interpolated)
    first, last = (full + _interpolate((raw - full) * colour, _SQUARE) for colour in (red, blue))
    return torch.cat((first, full, last), dim=1)


def demosaic_malvar(raw: Tensor, bayer: Tensor) -> Tensor:
    """Gradient-corrected linear interpolation (Malvar, He and Cutler, ICASSP 2004), which MATLAB's ``demosaic`` uses.

    ``raw`` (B, 1, H, W) -> (B, 3, H, W).
    """
    at_green, at_red, along, across = F.conv2d(F.pad(raw, (2,) * 4, mode="reflect"), _MALVAR.like(raw)).split(1, dim=1)
    red, green, blue = bayer.split(1, dim=1)
    # Green pixels with red neighbours to the left and right lie in red rows, the others in blue rows.
    beside = F.pad(red, (1, 1, 0, 0))
    red_rows = (green * (beside[..., :-2] + beside[..., 2:])).clamp(max=1)
    blue_rows = green - red_rows
    return torch.cat(
        (
            red * raw + blue * at_red + red_rows * along + blue_rows * across,
            green * raw + (1 - green) * at_green,
            blue * raw + red * at_red + blue_rows * along + red_rows * across,
        ),
        dim=1,
    )


def _interpolate(x: Tensor, kernel: Constant) -> Tensor:
    return F.conv2d(F.pad(x, (1,) * 4, mode="reflect"), kernel.like(x))
