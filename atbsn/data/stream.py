"""Random numbers for samples, which depend only on (seed, number) and not on what was drawn before."""

from functools import lru_cache

import numpy as np

SAMPLES, EPOCHS, MIXES = 0, 1, 2
"""Streams of the generator: crops are drawn by sample number, orders by epoch, mixtures by block."""


def generator(seed: int, number: int, stream: int) -> np.random.Generator:
    """Make the counter-based generator (Salmon et al., SC 2011) of this ``number`` and ``stream``.

    Generators of different numbers or streams never overlap.
    """
    key = np.array([seed, number], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, stream]))


def in_turn(seed: int, number: int, length: int) -> int:
    """Give the index, 0 to ``length`` - 1, for ``number``. Each run of ``length`` numbers (an epoch) has every index
    once, in a new order.
    """
    epoch, position = divmod(number, length)
    return int(_order(seed, epoch, length)[position])


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, length: int) -> np.ndarray:
    return generator(seed, epoch, EPOCHS).permutation(length)
