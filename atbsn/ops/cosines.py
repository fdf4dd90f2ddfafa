"""Overlapping 8 x 8 DCT blocks of a picture in opponent colours, and the picture that they add up to."""

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE, STRIDE = 8, 4
"""Side of the blocks and their distance, pixels: every pixel lies in four blocks. Chosen by hand; 8 is JPEG's."""


def dct_blocks(x: Tensor, stride: int = STRIDE) -> Tensor:
    """(1, 3, H, W) to the DCT coefficients (3, 64, h, w) of its blocks that lie inside, frequency 8 u + v."""
    return F.conv2d(x.transpose(0, 1), _dct(x.device), stride=stride)


def overlap_add(blocks: Tensor) -> Tensor:
    """Coefficients (3, 64, h, w) to (1, 3, H, W): right where four blocks overlap, so not in the outer 4 pixels."""
    return F.conv_transpose2d(blocks, _synthesis(blocks.device), stride=STRIDE).transpose(0, 1)


def pooled_energy(squares: Tensor) -> Tensor:
    """Average squared coefficients (3, 64, h, w) over 3 x 3 neighbouring frequencies; the same shape.

    Where a third of a coefficient's own square is larger than the average, it is taken instead.
    """
    return torch.maximum(F.conv2d(squares, _neighbours(squares.device)), squares / 3)


def to_opponent(x: Tensor) -> Tensor:
    """(1, 3, H, W): RGB to grey, red - blue and green - magenta, orthonormal."""
    return F.conv2d(x, _colours(x.device)[:, :, None, None])


def from_opponent(x: Tensor) -> Tensor:
    """The inverse of ``to_opponent``."""
    return F.conv2d(x, _colours(x.device).T[:, :, None, None])


@cache
def dct_matrix(side: int) -> Tensor:
    """The orthonormal DCT-II of ``side`` samples, (side, side) float64: row u has u half waves."""
    steps = torch.arange(side, dtype=torch.float64)
    cosines = torch.cos(math.pi / side * (steps + 0.5) * steps[:, None]) * math.sqrt(2 / side)
    cosines[0] /= math.sqrt(2)
    return cosines


@cache
def _colours(device: torch.device) -> Tensor:
    rows = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]])
    return F.normalize(rows, dim=1).to(device)


@cache
def _dct(device: torch.device) -> Tensor:
    """(64, 1, 8, 8) orthonormal."""
    one = dct_matrix(SIDE).float()
    return torch.einsum("ui,vj->uvij", one, one).reshape(-1, 1, SIDE, SIDE).to(device)


@cache
def _synthesis(device: torch.device) -> Tensor:
    """``_dct`` times a window whose copies, 4 pixels apart, sum to 1: (64, 1, 8, 8)."""
    window = torch.sin(math.pi / SIDE * (torch.arange(SIDE) + 0.5)) ** 2
    return _dct(device) * torch.outer(window, window).to(device)


@cache
def _neighbours(device: torch.device) -> Tensor:
    """The kernel (64, 64, 1, 1) that averages over 3 x 3 neighbouring frequencies."""
    u = torch.arange(SIDE)
    near = ((u[:, None] - u).abs() <= 1).float()
    both = torch.kron(near, near)
    return (both / both.sum(dim=1, keepdim=True))[:, :, None, None].to(device)
