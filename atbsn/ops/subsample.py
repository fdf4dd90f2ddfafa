"""The two sub-samplings of C-BSN (arXiv 2304.09507): all phase sub-images, or one random pixel of each cell."""

import torch
from torch import Tensor

from atbsn.utils.errors import UserError


def space_to_batch(x: Tensor, stride: int) -> Tensor:
    """S2B_b: make the b*b phase sub-images of ``x`` separate batch items: (B, C, H, W) -> (b*b*B, C, H/b, W/b).

    Item (i*b + j)*B + n is every b-th pixel of picture n, from row i and column j on. No convolution reaches
    from one sub-image into another, as it would in a mosaic of them.

    Raises:
        UserError: H or W is not a multiple of ``stride``.
    """
    height, width = _cells(x, stride)
    phases = x.unflatten(3, (width, stride)).unflatten(2, (height, stride))
    if _is_channels_last(x):
        return phases.permute(3, 5, 0, 2, 4, 1).flatten(0, 2).permute(0, 3, 1, 2)
    return phases.permute(3, 5, 0, 1, 2, 4).flatten(0, 2)


def batch_to_space(x: Tensor, stride: int) -> Tensor:
    """B2S_b, the inverse of ``space_to_batch``: (b*b*B, C, h, w) -> (B, C, b*h, b*w).

    Raises:
        UserError: the batch is not a multiple of ``stride`` squared.
    """
    if x.shape[0] % stride**2:
        raise UserError(
            f"batch of {x.shape[0]} sub-images: not a multiple of {stride} x {stride}; give every sub-image"
        )
    phases = x.unflatten(0, (stride, stride, -1))
    if _is_channels_last(x):
        return phases.permute(2, 4, 0, 5, 1, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    return phases.permute(2, 3, 4, 0, 5, 1).flatten(4, 5).flatten(2, 3)


def draw_positions(x: Tensor, stride: int) -> Tensor:
    """Draw one position in each i x i cell of ``x`` (B, C, H, W), uniformly, for RS_i; i is the ``stride``.

    The numbers come from torch's generator, on the device of ``x``. One draw can be used for every tensor of this batch
    and size, with any number of channels.

    Returns:
        (B, 1, H/i * W/i) int64, the indices of the drawn pixels in the flattened picture.

    Raises:
        UserError: H or W is not a multiple of ``stride``.
    """
    height, width = _cells(x, stride)
    inside = torch.randint(stride**2, (x.shape[0], 1, height, width), device=x.device)
    rows = torch.arange(height, device=x.device).unsqueeze(1) * stride + inside // stride
    columns = torch.arange(width, device=x.device) * stride + inside % stride
    return (rows * x.shape[3] + columns).flatten(2)


def subsample(x: Tensor, positions: Tensor, stride: int) -> Tensor:
    """RS_i: pick the pixels of ``x`` (B, C, H, W) that ``draw_positions`` drew: (B, C, H/i, W/i).

    All channels of a pixel are picked together. The gradient goes to the picked pixels.
    """
    height, width = _cells(x, stride)
    picked = x.flatten(2).gather(2, positions.expand(-1, x.shape[1], -1))
    return picked.unflatten(2, (height, width))


def _cells(x: Tensor, stride: int) -> tuple[int, int]:
    """Count the cells of ``stride`` x ``stride`` pixels in ``x``, down and across."""
    height, width = x.shape[-2:]
    if height % stride or width % stride:
        raise UserError(
            f"patch of {height} x {width} pixels: not a multiple of the sub-sampling stride {stride}; "
            f"crop to {height - height % stride} x {width - width % stride}, or choose such a patch_size"
        )
    return height // stride, width // stride


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
