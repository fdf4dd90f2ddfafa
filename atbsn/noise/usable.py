"""Which blocks of a picture tell its noise: not those that the sensor or somebody else left without any."""

import torch
from torch import Tensor

_CLIPPED = 0.9
"""Share of black or white pixels from which on a channel of a block tells nothing."""
_QUANTISED = 0.4
"""Variance, grey values squared, up to which a block may be free of noise: five times that of rounding, 1 / 12."""
_APART = 9.0
"""So many times as large is at least the variance of blocks with noise beside which such a block is an exception."""
_STRATA = 16
_FEWEST = 24
"""Blocks of one intensity that tell what is usual there."""
_BETWEEN = 0.05
"""Most blocks that lie between those without noise and those with it, by number of the former."""
_ALIKE = 0.3
"""Of noise: its log variance, over blocks of one intensity, rises by less from the 5 % to the 30 % quantile. Measured:
0.04 to 0.3 on SIDD's blocks; texture in 47 clean photographs 0.3 to 4, in a few of their strata less."""


def clipped_channels(blocks: Tensor) -> Tensor:
    """Which channels of (N, 3, pixels) in [0, 255] tell nothing: (N, 3) bool.

    A channel that is nearly all black or white, and every channel of a block in which one is white: its sensor was
    full, and what the others show is computed from it.
    """
    black, white = ((end).float().mean(2) >= _CLIPPED for end in (blocks <= 0, blocks >= 255))
    return black | white | white.any(1, keepdim=True)


def without_noise(variance: Tensor, intensity: Tensor) -> Tensor:
    """Which blocks of a noisy picture have no noise, as a blown sky has none: (N,) bool.

    Noise does not vanish where a picture gets brighter. So a block of hardly more variance than rounding makes is an
    exception where two things are true. Blocks of its intensity, or darker ones, have noise: three times as strong, and
    as strong in one block as in the next, which texture is not. And where there are such blocks, hardly any lies
    between those without noise and those with it, as it does where noise is weak.

    In a clean picture nothing is an exception: there the flat blocks tell that it is.

    Args:
        variance: (N,) of the blocks of one picture, less a plane, mean of their channels.
        intensity: (N,) their means, [0, 255].
    """
    quiet = variance <= _QUANTISED
    stratum = (intensity * (_STRATA / 256)).long().clamp(0, _STRATA - 1)
    result = torch.zeros_like(quiet)
    noise_seen, between = False, 0
    for number in range(_STRATA if quiet.any() else 0):
        own = (stratum == number) & quiet
        others = variance[(stratum == number) & ~quiet]
        noise_seen = noise_seen or _is_noise(others)
        if noise_seen and own.any():
            result |= own
            between += int((others < _APART * _QUANTISED).sum())
    return result if between <= _BETWEEN * int(result.sum()) else torch.zeros_like(result)


def _is_noise(variance: Tensor) -> bool:
    """Whether the flattest of these blocks, all of about one intensity, have noise that is no matter of rounding."""
    if len(variance) < _FEWEST:
        return False
    low, high = torch.quantile(variance.log(), variance.new_tensor([0.05, 0.3]))
    return bool(low.exp() >= _APART * _QUANTISED and high - low <= _ALIKE)
