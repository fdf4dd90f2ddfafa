"""Find the blocks of a picture that show its noise. Clipped blocks do not, nor do blocks filled with one colour."""

import torch
from torch import Tensor

_CLIPPED = 0.9
"""Share of black or of white pixels from which a channel of a block counts as clipped. Chosen by hand."""
_QUANTISED = 0.4
"""Grey values squared: largest variance of a block without noise. Chosen by hand: five times 1 / 12, that of
rounding."""
_APART = 9.0
"""Least ratio of the variance of blocks with noise to ``_QUANTISED`` at which blocks without noise are an exception:
noise three times as strong. Chosen by hand."""
_STRATA = 16
"""Number of equal intervals of [0, 255] into which blocks are sorted by intensity. Chosen by hand."""
_MIN_BLOCKS = 24
"""Fewest blocks of an interval that show whether it has noise. Chosen by hand."""
_MAX_BETWEEN = 0.05
"""Largest number of blocks whose variance lies between those without noise and those with it, as a share of the former.
Chosen by hand."""
_MAX_RISE = 0.3
"""Largest rise of the log variance from its 5 % to its 30 % quantile, over blocks of one interval, that noise has.
Measured: 0.04 to 0.3 on SIDD's blocks; texture in 47 clean photographs 0.3 to 4, in a few of their intervals less."""


def clipped_channels(blocks: Tensor) -> Tensor:
    """Find the channels of blocks (N, C, pixels), [0, 255], that do not show their noise: (N, C) bool.

    A channel that is nearly all black or white is clipped. If one channel is white, all channels of the block count as
    clipped: the sensor was saturated there, and the other channels were computed from it.
    """
    black, white = ((end).float().mean(2) >= _CLIPPED for end in (blocks <= 0, blocks >= 255))
    return black | white | white.any(1, keepdim=True)


def without_noise(variance: Tensor, intensity: Tensor) -> Tensor:
    """Find the blocks of a noisy picture that have no noise, such as those of a blown sky: (N,) bool.

    Noise does not vanish where a picture gets brighter. So a block with hardly more variance than rounding has no noise
    if two things are true. First, blocks of its intensity, or darker ones, have noise that is three times as strong and
    about equally strong in all of them, which texture is not. Second, hardly any block lies between those without noise
    and those with it; where noise is merely weak, many do.

    In a clean picture no block is an exception, and its flat blocks show that it is clean.

    Args:
        variance: (N,) variances of the blocks of one picture, less their planes, mean of the channels.
        intensity: (N,) means of the blocks, [0, 255].
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
    return result if between <= _MAX_BETWEEN * int(result.sum()) else torch.zeros_like(result)


def _is_noise(variance: Tensor) -> bool:
    """Whether the flattest of these blocks, all of about one intensity, have noise that is stronger than rounding."""
    if len(variance) < _MIN_BLOCKS:
        return False
    low, high = torch.quantile(variance.log(), variance.new_tensor([0.05, 0.3]))
    return bool(low.exp() >= _APART * _QUANTISED and high - low <= _MAX_RISE)
