"""Draw stationary correlated Gaussian fields of any size through their spectrum."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from atbsn.ops.constant import Constant

REACH = 4
"""Pixels over which noise is taken to be correlated, up and down, left and right."""
WHOLE = 512
"""Longest side that is drawn at once; larger fields are cross-faded from pieces of this side."""
_FADE = 64
_SWELL = 16
"""Pixels over which the random scale of heavy-tailed noise changes."""


def spectrum(correlation: Tensor, height: int, width: int) -> Tensor:
    """(3, 3, 9, 9) correlation to its power spectrum on a torus, (height, width // 2 + 1, 3, 3), real and symmetric.

    The correlation must be the same for d and -d, and the sides at least 2 REACH + 1.
    """
    lags = torch.arange(-REACH, REACH + 1, device=correlation.device)
    torus = correlation.new_zeros(*correlation.shape[:2], height, width)
    torus[:, :, (lags % height)[:, None], (lags % width)[None]] = correlation
    return torch.fft.rfft2(torus).real.permute(2, 3, 0, 1)


def transfer(correlation: Tensor, height: int, width: int) -> Tensor:
    """Lower triangular square roots of the spectrum for ``white_to_field``: (3, 3, height, 2 (width // 2 + 1)).

    What is negative in the spectrum of a correlation that was cut off is set to 0, and the variances are brought
    back to 1. Every value stands twice, for the real and for the imaginary part.
    """
    values, vectors = torch.linalg.eigh(spectrum(correlation.double(), height, width))
    root = torch.linalg.qr(values.clamp(min=0).sqrt().unsqueeze(-1) * vectors.mT).R.mT  # root root^T: the spectrum
    columns = torch.full((width // 2 + 1, 1), 2.0, dtype=root.dtype, device=root.device)
    columns[0] = 1
    if width % 2 == 0:
        columns[-1] = 1  # its own mirror image, so it counts once; irfft2 drops its imaginary half
    variance = (root.square().sum(-1) * columns).sum((0, 1)) / (height * width)
    root = root / variance.clamp(min=1e-12).sqrt().unsqueeze(-1)
    root = root * (height * width / 2 * (3 - columns)).sqrt().unsqueeze(-1)
    return root.permute(2, 3, 0, 1).repeat_interleave(2, dim=3).float().contiguous()


def white_to_field(white: Tensor, roots: Tensor, width: int) -> Tensor:
    """Independent normal numbers (B, 3, height, 2 (width // 2 + 1)) to a periodic field (B, 3, height, width)."""
    mixed = torch.empty_like(white)
    for channel in reversed(range(white.shape[1])):
        torch.mul(white[:, channel], roots[channel, channel], out=mixed[:, channel])
        for other in range(channel):
            mixed[:, channel].addcmul_(white[:, other], roots[channel, other])
    half = torch.view_as_complex(mixed.unflatten(3, (-1, 2)))
    return torch.fft.irfft2(half, s=(white.shape[2], width))


def fade(length: int) -> tuple[list[int], Tensor]:
    """Starts of pieces of side WHOLE that cover ``length``, and their weights (pieces, WHOLE).

    Over ``_FADE`` pixels a piece goes out as a cosine while the next comes in as a sine: the squares sum to 1, so
    independent pieces join with the variance of one, and nearly its correlation.
    """
    step = WHOLE - _FADE
    starts = list(range(0, max(length - _FADE, 1), step))
    angle = (torch.arange(_FADE) + 0.5) * (math.pi / 2 / _FADE)
    weights = torch.ones(len(starts), WHOLE)
    weights[1:, :_FADE] = angle.sin()
    weights[:-1, -_FADE:] = angle.cos()
    return starts, weights


def swell(batch: int, height: int, width: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Slowly changing Gaussian field of unit variance (B, 1, height, width), for random scales."""
    cells = [(length - 1) // _SWELL + 2 for length in (height, width)]
    coarse = torch.randn(batch, *cells, device=device, generator=generator)
    sides = [_swell_weights(length).like(coarse) for length in (height, width)]
    return (sides[0] @ coarse @ sides[1].T).unsqueeze(1)


@lru_cache(maxsize=16)
def _swell_weights(length: int) -> Constant:
    """(length, cells) weights between neighbouring cells, the squares of each row summing to 1."""
    position = torch.arange(length) / _SWELL
    cell = position.long()
    angle = (position - cell) * (math.pi / 2)
    weights = torch.zeros(length, int(cell[-1]) + 2)
    weights.scatter_(1, cell[:, None], angle.cos()[:, None])
    weights.scatter_(1, cell[:, None] + 1, angle.sin()[:, None])
    return Constant(weights)
