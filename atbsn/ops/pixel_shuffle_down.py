"""Pixel-shuffle down-sampling (PD): the f*f phases of a picture laid side by side (Zhou et al., arXiv 1904.03485).

As a batch, where no phase sees another, it is ``ops.subsample.space_to_batch``.
"""

from torch import Tensor
from torch.nn import functional as F

from atbsn.utils.errors import UserError


def pd_mosaic(x: Tensor, stride: int, pad: int = 0) -> Tensor:
    """PD_f: (B, C, H, W) -> (B, C, H + 2 f p, W + 2 f p), every f-th pixel from row a and column b on in tile (a, b).

    Args:
        stride: f; H and W are multiples of it.
        pad: p, zeros on the four sides of each tile.

    Raises:
        UserError: H or W is not a multiple of ``stride``.
    """
    height, width = x.shape[-2:]
    if height % stride or width % stride:
        raise UserError(
            f"picture of {height} x {width} pixels: not a multiple of the stride {stride}; pad or crop it, or choose "
            "such a patch_size"
        )
    tiles = x.unflatten(3, (width // stride, stride)).unflatten(2, (height // stride, stride))
    tiles = F.pad(tiles.permute(0, 1, 3, 2, 5, 4), (pad, pad, 0, 0, pad, pad))
    return tiles.flatten(4, 5).flatten(2, 3)


def pd_mosaic_inverse(mosaic: Tensor, stride: int, pad: int = 0) -> Tensor:
    """The inverse of ``pd_mosaic``, whatever stands in the borders of the tiles."""
    tiles = mosaic.unflatten(3, (stride, -1)).unflatten(2, (stride, -1))
    if pad:
        tiles = tiles[:, :, :, pad:-pad, :, pad:-pad]
    return tiles.permute(0, 1, 3, 2, 5, 4).flatten(4, 5).flatten(2, 3)
