"""One number for the noise of one picture, at once; ``estimate`` is the careful way."""

import numpy as np
import torch

from atbsn.noise.blocks import SIDE, without_plane
from atbsn.utils.image import to_tensor

_STRATA = 8
_FEWEST = 16
"""Blocks that an intensity needs to have a say."""
_FLATTEST = 0.1
_SELECTION = 0.2
"""How much the log variance of the flattest tenth is below that of flat blocks, by their choice."""


def noise_level(picture: np.ndarray, num_blocks: int = 4096, seed: int = 0) -> float | None:
    """Standard deviation of the noise in ``picture``, in grey values of 255, to about 10 % where something is flat.

    Blocks of 16 x 16 pixels, less a plane, are sorted into intensities; of each intensity the flattest tenth counts.
    Only where nothing is flat does texture add to it.

    Args:
        picture: (H, W, 3), uint8, uint16 or float32 in [0, 255].
        num_blocks: how many blocks are looked at, drawn at random.

    Returns:
        None for a picture of less than ``_FEWEST`` blocks between black and white.
    """
    height, width = (side // SIDE for side in picture.shape[:2])
    chosen = np.random.default_rng(seed).permutation(height * width)[:num_blocks]
    corners = [(SIDE * (number // width), SIDE * (number % width)) for number in chosen]
    if not corners:
        return None
    sampled = np.stack([picture[top : top + SIDE, left : left + SIDE] for top, left in corners])
    blocks = to_tensor(sampled.reshape(-1, SIDE, 3)).view(3, len(sampled), SIDE * SIDE).transpose(0, 1)
    inside = ((blocks > 0) & (blocks < 255)).float().mean((1, 2)) > 0.5
    blocks = blocks[inside]
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
