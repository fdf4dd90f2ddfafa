"""What is drawn for a sample, as a pure function of (seed, number): nothing depends on what was drawn before."""

from functools import lru_cache

import numpy as np

SAMPLES, EPOCHS, MIXES = 0, 1, 2
"""Streams of the generator: crops are keyed by sample number, orders by epoch, mixtures by block."""


def generator(seed: int, number: int, stream: int) -> np.random.Generator:
    """A counter-based generator (Salmon et al., SC 2011): any number's stream at once, none overlapping."""
    key = np.array([seed, number], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, stream]))


def in_turn(seed: int, number: int, length: int) -> int:
    """Which of ``length`` things is number ``number``: each run of ``length`` numbers (an epoch) has each once, in a
    fresh order.
    """
    epoch, position = divmod(number, length)
    return int(_order(seed, epoch, length)[position])


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, length: int) -> np.ndarray:
    return generator(seed, epoch, EPOCHS).permutation(length)
