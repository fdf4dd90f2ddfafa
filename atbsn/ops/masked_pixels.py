"""Noise2Void's masks: a few pixels that get another pixel's value (Krull et al., CVPR 2019, arXiv 1811.10980)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Axis = Literal["across", "down"]


def draw_masked(x: Tensor, side: int) -> Tensor:
    """Draw one place in every ``side`` x ``side`` box of ``x`` (B, C, H, W), uniformly: (B, boxes) int64.

    So the masked pixels are spread evenly, one in side^2. A place is the index of a pixel in the flattened picture, or
    H W if it lies outside of the picture, as it may in a box at the right or lower border.
    """
    height, width = x.shape[-2:]
    boxes = (len(x), -(-height // side), -(-width // side))
    inside = torch.randint(side**2, boxes, device=x.device)
    row = side * torch.arange(boxes[1], device=x.device)[:, None] + inside // side
    column = side * torch.arange(boxes[2], device=x.device) + inside % side
    beyond = (row >= height) | (column >= width)
    return (row * width + column).masked_fill(beyond, height * width).flatten(1)


def draw_sources(x: Tensor, places: Tensor, radius: int, centre: bool) -> Tensor:
    """Draw a pixel of the window around each of ``places``, uniformly: (B, boxes) int64, indices as in ``draw_masked``.

    Args:
        places: what ``draw_masked`` returns.
        radius: pixels to each side; at the border the window is cut.
        centre: whether the place itself may be drawn.
    """
    height, width = x.shape[-2:]
    place = places.clamp(max=height * width - 1)
    row, column = place // width, place % width
    top, left = (row - radius).clamp(min=0), (column - radius).clamp(min=0)
    rows = (row + radius + 1).clamp(max=height) - top
    columns = (column + radius + 1).clamp(max=width) - left
    number = rows * columns - (0 if centre else 1)
    drawn = (torch.rand(place.shape, device=x.device) * number).long()
    if not centre:
        drawn = drawn + (drawn >= (row - top) * columns + column - left)
    return (top + drawn // columns) * width + left + drawn % columns


def mask_of(x: Tensor, places: Tensor) -> Tensor:
    """Mark the pixels of ``x`` (B, C, H, W) that are among ``places``: (B, 1, H, W) bool."""
    height, width = x.shape[-2:]
    mask = torch.zeros(len(x), height * width + 1, dtype=torch.bool, device=x.device)
    return mask.scatter(1, places, True)[:, :-1].view(-1, 1, height, width)


def replaced(x: Tensor, places: Tensor, sources: Tensor) -> Tensor:
    """Copy ``x`` (B, C, H, W) and give the pixels at ``places`` the values of those at ``sources``, in all channels."""
    flat = x.flatten(2)
    values = flat.gather(2, sources.unsqueeze(1).expand(-1, x.shape[1], -1))
    return F.pad(flat, (0, 1)).scatter(2, places.unsqueeze(1).expand_as(values), values)[..., :-1].view_as(x)


def randomised_lines(x: Tensor, mask: Tensor, axis: Axis, span: int) -> Tensor:
    """Replace the neighbours of masked pixels along ``axis`` by random values (Structured Noise2Void).

    So a network cannot read the noise of a masked pixel from neighbours that share it (Broaddus et al., ISBI 2020). The
    values are uniform between the smallest and the largest of the picture and channel. Masked pixels themselves do not
    change.

    Args:
        x: (B, C, H, W).
        mask: (B, 1, H, W) bool.
        span: length, pixels, of the line with the masked pixel in its middle; an odd number.
    """
    kernel = (1, span) if axis == "across" else (span, 1)
    padding = (kernel[0] // 2, kernel[1] // 2)
    line = (F.max_pool2d(mask.to(x.dtype), kernel, stride=1, padding=padding) > 0) & ~mask
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    return torch.where(line, torch.lerp(low, high, torch.rand_like(x)), x)
