"""Pixel-shuffle down-sampling (PD) as AP-BSN lays it out: the phases of a picture side by side in one mosaic."""

from torch import Tensor
from torch.nn import functional as F


def pixel_shuffle_downsample(x: Tensor, stride: int, margin: int) -> Tensor:
    """PD_f: lay the f*f phase sub-images of ``x`` (B, C, H, W) out as tiles of an f x f mosaic; f is the ``stride``.

    Phase (a, b) has every f-th pixel from row a and column b on. It lies in row a and column b of the mosaic, with
    ``margin`` zeros on each of its four sides. H and W are multiples of f.

    Returns:
        (B, C, H + 2 f margin, W + 2 f margin).
    """
    height, width = x.shape[-2:]
    cells = x.unflatten(3, (width // stride, stride)).unflatten(2, (height // stride, stride))
    tiles = F.pad(cells.permute(0, 1, 3, 2, 5, 4), (margin, margin, 0, 0, margin, margin))
    return tiles.flatten(4, 5).flatten(2, 3)


def pixel_shuffle_upsample(x: Tensor, stride: int, margin: int) -> Tensor:
    """The inverse of ``pixel_shuffle_downsample``: cut the margins off and put the phases back."""
    height, width = (side // stride for side in x.shape[-2:])
    tiles = x.unflatten(3, (stride, width)).unflatten(2, (stride, height))
    tiles = tiles[:, :, :, margin : height - margin, :, margin : width - margin]
    return tiles.permute(0, 1, 3, 2, 5, 4).flatten(4, 5).flatten(2, 3)
