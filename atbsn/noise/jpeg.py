"""JPEG compression of a batch of pictures, as a function of tensors on any device."""

import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.ops.constant import Constant
from atbsn.ops.cosines import dct_matrix
from atbsn.ops.luma import BT601

_TO_YCBCR = torch.tensor([[*BT601], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=torch.float64)
"""From RGB to luma, the difference of blue to luma and that of red to luma (JFIF, ITU-T T.871, clause 7)."""
_YCBCR, _RGB = Constant(_TO_YCBCR), Constant(torch.linalg.inv(_TO_YCBCR))
"""The same, and its inverse."""

_LUMA = Constant(
    torch.tensor(
        [
            [16, 11, 10, 16, 24, 40, 51, 61],
            [12, 12, 14, 19, 26, 58, 60, 55],
            [14, 13, 16, 24, 40, 57, 69, 56],
            [14, 17, 22, 29, 51, 87, 80, 62],
            [18, 22, 37, 56, 68, 109, 103, 77],
            [24, 35, 55, 64, 81, 104, 113, 92],
            [49, 64, 78, 87, 103, 121, 120, 101],
            [72, 92, 95, 98, 112, 100, 103, 99],
        ]
    )
)
"""Quantisation table of luma in Annex K of the JPEG standard (ITU-T T.81)."""
_CHROMA = Constant(
    F.pad(
        torch.tensor([[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]), (0, 4, 0, 4), value=99
    )
)
"""Quantisation table of the colour differences in the same annex."""
_DCT = Constant(dct_matrix(8).float())
"""The 8 x 8 DCT-II of JPEG."""


def to_ycbcr(rgb: Tensor) -> Tensor:
    """Convert RGB (B, 3, H, W) to luma and two colour differences (BT.601, as in JPEG). Grey has the differences 0."""
    return mix_channels(rgb, _YCBCR.like(rgb))


def to_rgb(ycbcr: Tensor) -> Tensor:
    """The inverse of ``to_ycbcr``."""
    return mix_channels(ycbcr, _RGB.like(ycbcr))


def mix_channels(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the pixels of ``x`` (B, 3, H, W) by ``matrix``, which is (3, 3), or (B, 3, 3): one for each picture."""
    return torch.einsum("bij,bjhw->bihw" if matrix.dim() == 3 else "ij,bjhw->bihw", matrix, x)


def jpeg(rgb: Tensor, quality: Tensor, subsampled: Tensor) -> Tensor:
    """Compress and decompress ``rgb`` (B, 3, H, W), [0, 255], H and W multiples of 16; the same shape and range.

    Args:
        quality: (B,), 1 to 100, in the sense of libjpeg.
        subsampled: (B,) bool: whether the colour differences have half the resolution (4:2:0).
    """
    luma, chroma = quantisation_tables(quality)
    ycbcr = to_ycbcr(rgb)
    y, c = ycbcr[:, :1] - 128, ycbcr[:, 1:]
    half = F.interpolate(_quantised(F.avg_pool2d(c, 2), chroma), scale_factor=2.0, mode="bilinear")
    c = torch.where(subsampled[:, None, None, None], half, _quantised(c, chroma))
    return to_rgb(torch.cat((_quantised(y, luma) + 128, c), dim=1)).clamp(0, 255)


def quantisation_tables(quality: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the quantisation steps of luma and of colour, (B, 8, 8) each, for the qualities (B,), as libjpeg does."""
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)[:, None, None]
    luma, chroma = (((table.like(quality) * scale + 50) / 100).floor().clamp(1, 255) for table in (_LUMA, _CHROMA))
    return luma, chroma


def _quantised(x: Tensor, steps: Tensor) -> Tensor:
    """Round the 8 x 8 DCT of ``x`` (B, C, H, W) to multiples of ``steps`` (B, 8, 8), and transform it back."""
    dct = _DCT.like(x)
    blocks = x.unflatten(-2, (-1, 8)).unflatten(-1, (-1, 8)).transpose(-3, -2)
    steps = steps[:, None, None, None]
    coefficients = torch.round(dct @ blocks @ dct.T / steps) * steps
    return (dct.T @ coefficients @ dct).transpose(-3, -2).flatten(-2).flatten(-3, -2)
