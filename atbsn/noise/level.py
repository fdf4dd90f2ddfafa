"""One number for the noise of one picture, at once; ``estimate`` is the careful way."""

import numpy as np
import torch

from atbsn.noise.blocks import SIDE, without_plane
from atbsn.noise.usable import without_noise
from atbsn.pictures import to_tensor

_STRATA = 8
_FEWEST = 16
"""Blocks that an intensity needs to have a say."""
_FLATTEST = 0.1
_SELECTION = 0.2
"""How much the log variance of the flattest tenth is below that of flat blocks, by their choice."""


def noise_level(picture: np.ndarray, num_blocks: int = 4096, seed: int = 0) -> float | None:
    """Standard deviation of the noise in ``picture``, in grey values of 255, to about 10 % where something is flat.

    Blocks of 16 x 16 pixels, less a plane, are sorted into intensities; of each intensity the flattest tenth counts.
    Only where nothing is flat does texture add to it. Blown and other flat places without noise do not count.

    Args:
        picture: (H, W, 3), uint8, uint16 or float32 in [0, 255].
        num_blocks: how many blocks are looked at, drawn at random.

    Returns:
        None for a picture of less than ``_FEWEST`` blocks that tell something.
    """
    blocks = _as_blocks(sample_blocks(picture, num_blocks, seed))
    blocks = blocks[_usable(blocks)]
    if len(blocks) < _FEWEST:
        return None
    variance = without_plane(blocks).square().mean((1, 2)).clamp(min=1e-4).log()
    stratum = (blocks.mean((1, 2)) * (_STRATA / 256)).long()
    total, count = 0.0, 0
    for own in (variance[stratum == number] for number in range(_STRATA)):
        if len(own) >= _FEWEST:
            total += len(own) * float(torch.quantile(own, _FLATTEST).add(_SELECTION).exp())
            count += len(own)
    if not count:
        return float(torch.quantile(variance, _FLATTEST).add(_SELECTION).div(2).exp())
    return (total / count) ** 0.5


def sample_blocks(picture: np.ndarray, num_blocks: int = 4096, seed: int = 0) -> np.ndarray:
    """Blocks of ``picture`` (H, W, C) at random places, the same in every picture of the size: (N, 16, 16, C)."""
    height, width = (side // SIDE for side in picture.shape[:2])
    chosen = np.random.default_rng(seed).permutation(height * width)[:num_blocks]
    corners = [(SIDE * (number // width), SIDE * (number % width)) for number in chosen]
    blocks = [picture[top : top + SIDE, left : left + SIDE] for top, left in corners]
    return np.stack(blocks) if blocks else np.empty((0, SIDE, SIDE, picture.shape[2]), picture.dtype)


def noise_before_and_after(noisy: np.ndarray, clean: np.ndarray) -> tuple[float, float] | None:
    """Standard deviation of the noise in the same ``sample_blocks`` of a noisy and a denoised picture, grey values.

    The tenth of them that is flattest in the denoised picture counts, less a plane: so texture adds little, and as much
    to both.

    Returns:
        None for less than ``_FEWEST`` blocks that tell something.
    """
    before, after = _as_blocks(noisy), _as_blocks(clean)
    usable = _usable(before)
    before, after = (without_plane(blocks[usable]).square().mean((1, 2)) for blocks in (before, after))
    if len(before) < _FEWEST:
        return None
    flattest = after.argsort()[: max(_FEWEST, round(_FLATTEST * len(after)))]
    return float(before[flattest].mean().sqrt()), float(after[flattest].mean().sqrt())


def _as_blocks(sample: np.ndarray) -> torch.Tensor:
    """(N, C, pixels) in [0, 255]."""
    channels = sample.shape[3]
    return to_tensor(sample.reshape(-1, SIDE, channels)).view(channels, len(sample), SIDE * SIDE).transpose(0, 1)


def _usable(blocks: torch.Tensor) -> torch.Tensor:
    """(N,): which have most of their numbers above 0, and below 255 in every channel, and noise if others have."""
    usable = ((blocks > 0).float().mean((1, 2)) > 0.5) & ((blocks < 255).float().mean(2) > 0.5).all(1)
    inside = blocks[usable]
    usable[usable.clone()] &= ~without_noise(without_plane(inside).square().mean((1, 2)), inside.mean((1, 2)))
    return usable
