"""Draw stationary correlated Gaussian fields of any size by their power spectrum."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from atbsn.ops.constant import Constant

REACH = 4
"""Pixels: largest lag, in rows and in columns, at which noise is taken to be correlated. Chosen by hand."""
WHOLE = 512
"""Pixels: longest side of a field that is drawn at once. Larger fields are cross-faded from pieces of this side. Chosen
by hand."""
_FADE = 64
"""Pixels over which two pieces are cross-faded. Chosen by hand: many times ``REACH``."""
_SWELL = 16
"""Pixels over which the random scale of heavy-tailed noise changes: the side of the blocks of ``estimate``."""


def spectrum(correlation: Tensor, height: int, width: int) -> Tensor:
    """Compute the power spectrum of a correlation on a torus.

    Args:
        correlation: (C, C, 9, 9), equal for d and -d.
        height, width: sides of the torus, at least 2 REACH + 1 pixels.

    Returns:
        (height, width // 2 + 1, C, C), real and symmetric.
    """
    lags = torch.arange(-REACH, REACH + 1, device=correlation.device)
    torus = correlation.new_zeros(*correlation.shape[:2], height, width)
    torus[:, :, (lags % height)[:, None], (lags % width)[None]] = correlation
    return torch.fft.rfft2(torus).real.permute(2, 3, 0, 1)


def transfer(correlation: Tensor, height: int, width: int) -> Tensor:
    """Compute the lower triangular square roots of the spectrum that ``white_to_field`` needs.

    Their shape is (C, C, height, 2 (width // 2 + 1)). Every value is repeated, for the real and for the imaginary part.
    A correlation that is cut off at ``REACH`` may have a spectrum that is negative somewhere. Negative power is set to
    0, and the variances are scaled back to 1.
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
    """Turn independent normal numbers (B, C, height, 2 (width // 2 + 1)) into a periodic field (B, C, height, width).

    ``roots`` is what ``transfer`` returns.
    """
    mixed = torch.empty_like(white)
    for channel in reversed(range(white.shape[1])):
        torch.mul(white[:, channel], roots[channel, channel], out=mixed[:, channel])
        for other in range(channel):
            mixed[:, channel].addcmul_(white[:, other], roots[channel, other])
    half = torch.view_as_complex(mixed.unflatten(3, (-1, 2)))
    return torch.fft.irfft2(half, s=(white.shape[2], width))


def fade(length: int) -> tuple[list[int], Tensor]:
    """Cover ``length`` pixels by overlapping pieces of side ``WHOLE``.

    Over ``_FADE`` pixels, a piece is faded out by a cosine and the next is faded in by a sine. The squares of the
    weights sum to 1, so the sum of independent pieces has the variance of one piece, and nearly its correlation.

    Returns:
        The first pixel of each piece, and the weights (pieces, WHOLE).
    """
    step = WHOLE - _FADE
    starts = list(range(0, max(length - _FADE, 1), step))
    angle = (torch.arange(_FADE) + 0.5) * (math.pi / 2 / _FADE)
    weights = torch.ones(len(starts), WHOLE)
    weights[1:, :_FADE] = angle.sin()
    weights[:-1, -_FADE:] = angle.cos()
    return starts, weights


def swell(batch: int, height: int, width: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw a slowly changing Gaussian field of unit variance (B, 1, height, width), for random scales."""
    cells = [(length - 1) // _SWELL + 2 for length in (height, width)]
    coarse = torch.randn(batch, *cells, device=device, generator=generator)
    sides = [_swell_weights(length).like(coarse) for length in (height, width)]
    return (sides[0] @ coarse @ sides[1].T).unsqueeze(1)


@lru_cache(maxsize=16)
def _swell_weights(length: int) -> Constant:
    """Weights (length, cells) of interpolation between neighbouring cells; the squares of each row sum to 1."""
    position = torch.arange(length) / _SWELL
    cell = position.long()
    angle = (position - cell) * (math.pi / 2)
    weights = torch.zeros(length, int(cell[-1]) + 2)
    weights.scatter_(1, cell[:, None], angle.cos()[:, None])
    weights.scatter_(1, cell[:, None] + 1, angle.sin()[:, None])
    return Constant(weights)
