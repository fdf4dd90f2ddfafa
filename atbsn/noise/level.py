"""A quick estimate of the noise level of one picture, as one number. ``estimate`` is the careful one."""

import numpy as np
import torch

from atbsn.noise.blocks import SIDE, without_plane
from atbsn.noise.usable import without_noise
from atbsn.pictures import to_tensor

_STRATA = 8
"""Number of equal intervals of [0, 255] into which blocks are sorted by intensity. Chosen by hand."""
_MIN_BLOCKS = 16
"""Fewest blocks of an interval that are used, and fewest of a picture. Chosen by hand."""
_FLATTEST = 0.1
"""Share of the blocks of an interval, those of least variance, that count as flat. Chosen by hand."""
_SELECTION_BIAS = 0.2
"""Amount by which the log variance at this quantile lies below that of all flat blocks, because the flattest were
selected (selection bias). Chosen by hand for blocks of 256 pixels; it makes a difference of 10 % in the level."""


def noise_level(picture: np.ndarray, num_blocks: int = 4096, seed: int = 0) -> float | None:
    """Estimate the standard deviation of the noise in ``picture``, grey values of [0, 255].

    It is right to about 10 % where something is flat. Blocks of 16 x 16 pixels, less the plane that fits them best, are
    sorted by intensity, and the flattest tenth of each interval is used. Texture adds to the result only where nothing
    is flat. Blown highlights and other places without noise are left out.

    Args:
        picture: (H, W, 3), uint8, uint16 or float32 in [0, 255].
        num_blocks: most blocks that are used, drawn at random.
        seed: seed of the choice of blocks.

    Returns:
        The standard deviation; None for a picture with fewer than 16 usable blocks.
    """
    blocks = _as_blocks(sample_blocks(picture, num_blocks, seed))
    blocks = blocks[_usable(blocks)]
    if len(blocks) < _MIN_BLOCKS:
        return None
    variance = without_plane(blocks).square().mean((1, 2)).clamp(min=1e-4).log()
    stratum = (blocks.mean((1, 2)) * (_STRATA / 256)).long()
    total, count = 0.0, 0
    for own in (variance[stratum == number] for number in range(_STRATA)):
        if len(own) >= _MIN_BLOCKS:
            total += len(own) * float(torch.quantile(own, _FLATTEST).add(_SELECTION_BIAS).exp())
            count += len(own)
    if not count:
        return float(torch.quantile(variance, _FLATTEST).add(_SELECTION_BIAS).div(2).exp())
    return (total / count) ** 0.5


def sample_blocks(picture: np.ndarray, num_blocks: int = 4096, seed: int = 0) -> np.ndarray:
    """Cut blocks (N, 16, 16, C) out of ``picture`` (H, W, C) at random places. Pictures of one size have the same."""
    height, width = (side // SIDE for side in picture.shape[:2])
    chosen = np.random.default_rng(seed).permutation(height * width)[:num_blocks]
    corners = [(SIDE * (number // width), SIDE * (number % width)) for number in chosen]
    blocks = [picture[top : top + SIDE, left : left + SIDE] for top, left in corners]
    return np.stack(blocks) if blocks else np.empty((0, SIDE, SIDE, picture.shape[2]), picture.dtype)


def noise_before_and_after(noisy: np.ndarray, clean: np.ndarray) -> tuple[float, float] | None:
    """Estimate the standard deviation of the noise before and after denoising, grey values.

    It is measured in the tenth of the blocks that is flattest in the denoised picture, less their planes. So texture
    adds little, and the same to both.

    Args:
        noisy, clean: ``sample_blocks`` of the noisy and of the denoised picture.

    Returns:
        Before and after; None with fewer than 16 usable blocks.
    """
    before, after = _as_blocks(noisy), _as_blocks(clean)
    usable = _usable(before)
    before, after = (without_plane(blocks[usable]).square().mean((1, 2)) for blocks in (before, after))
    if len(before) < _MIN_BLOCKS:
        return None
    flattest = after.argsort()[: max(_MIN_BLOCKS, round(_FLATTEST * len(after)))]
    return float(before[flattest].mean().sqrt()), float(after[flattest].mean().sqrt())


def _as_blocks(sample: np.ndarray) -> torch.Tensor:
    """``sample_blocks`` as a tensor (N, C, pixels) in [0, 255]."""
    channels = sample.shape[3]
    return to_tensor(sample.reshape(-1, SIDE, channels)).view(channels, len(sample), SIDE * SIDE).transpose(0, 1)


def _usable(blocks: torch.Tensor) -> torch.Tensor:
    """(N,) bool: which blocks can be used. Most of their values are above 0 and, in every channel, below 255, and they
    have noise if other blocks have some (``without_noise``)."""
    usable = ((blocks > 0).float().mean((1, 2)) > 0.5) & ((blocks < 255).float().mean(2) > 0.5).all(1)
    inside = blocks[usable]
    usable[usable.clone()] &= ~without_noise(without_plane(inside).square().mean((1, 2)), inside.mean((1, 2)))
    return usable
