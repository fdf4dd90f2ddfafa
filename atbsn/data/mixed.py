"""Several data sets as one, each with its share of the training."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import MinLen

from atbsn.data.base import ImageSet, deepest
from atbsn.data.folder import write_examples
from atbsn.data.stream import MIXES, generator
from atbsn.pictures import Picture
from atbsn.registry import DATASETS
from atbsn.registry.build import build
from atbsn.utils.errors import UserError
from atbsn.utils.types import PositiveFloat

_BLOCK = 1000
"""Number of samples in which the shares are exact. Chosen by hand."""


@DATASETS.register
class Mixed(ImageSet):
    """Several sets as one. Each set has its share of every 1000 samples of a training, in a random order.

    Each set takes its own pictures in turn, so the pictures of a small set with a large weight come more often. Which
    picture a sample is cut from depends only on the seed and the number of the sample, as with a single set. The name
    of a picture is the number of its set, from 1, and its name there. Validation and ``atbsn test`` take every picture
    once.

    Args:
        sets: the options of each set, ``{type: ..., dataroot: ..., ...}``.
        weights: the shares of the sets; they need not sum to 1. Without them every picture counts equally.

    Raises:
        UserError: a set cannot be built, the number of weights is not that of the sets, or a share is too small.
    """

    def __init__(
        self,
        sets: Annotated[Sequence[dict[str, Any]], MinLen(1)],
        weights: Sequence[PositiveFloat] | None = None,
    ) -> None:
        if weights is not None and len(weights) != len(sets):
            raise UserError(f"weights: {len(weights)} for {len(sets)} sets; give one for each, or none")
        if weights is not None and min(weights) * _BLOCK < sum(weights):
            share = f"{min(weights):g} of {sum(weights):g} in all"
            raise UserError(f"weights: {share} is less than one sample in {_BLOCK}; enlarge it, or leave the set out")
        self.sets = [build(DATASETS, options) for options in sets]
        self.weights = None if weights is None else tuple(weights)
        self.has_clean = all(images.has_clean for images in self.sets)

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        write_examples(folder, "a/one", "b/one", "b/two")
        return {
            "sets": [{"type": "NoisyFolder", "dataroot": str(folder / part)} for part in "ab"],
            "weights": [0.25, 0.75],
        }

    def __len__(self) -> int:
        return sum(map(len, self.sets))

    def key(self, index: int) -> str:
        place, own = self._find(index)
        return f"{place + 1}/{self.sets[place].key(own)}"

    def pick(self, seed: int, number: int) -> int:
        if self.weights is None:
            return super().pick(seed, number)
        block, position = divmod(number, _BLOCK)
        places, turns, counts = _block(self.weights, seed, block)
        place = int(places[position])
        turn = block * int(counts[place]) + int(turns[position])
        own = self.sets[place].pick((seed + place + 1) % 2**64, turn)
        return sum(map(len, self.sets[:place])) + own

    def size(self, index: int) -> tuple[int, int]:
        images, own = self._at(index)
        return images.size(own)

    def read(self, index: int) -> Picture:
        images, own = self._at(index)
        return images.read(own)

    def read_clean(self, index: int) -> Picture:
        images, own = self._at(index)
        return images.read_clean(own)

    def samples(self, index: int) -> np.ndarray:
        images, own = self._at(index)
        return images.samples(own)

    def nearly_clean(self, index: int) -> bool:
        images, own = self._at(index)
        return images.nearly_clean(own)

    def source(self, index: int) -> Path | None:
        images, own = self._at(index)
        return images.source(own)

    def suffix(self, index: int) -> str:
        images, own = self._at(index)
        return images.suffix(own)

    def window(self, index: int) -> tuple[slice, slice]:
        images, own = self._at(index)
        return images.window(own)

    def groups(self, index: int) -> dict[str, str]:
        images, own = self._at(index)
        return images.groups(own)

    def keep_usable(self, min_side: int) -> None:
        for images in self.sets:
            images.keep_usable(min_side)

    def preload(self) -> None:
        for images in self.sets:
            images.preload()

    def crop(self, index: int, top: int, left: int, size: int) -> np.ndarray:
        images, own = self._at(index)
        return images.crop(own, top, left, size)

    def depth(self) -> np.dtype:
        return deepest(images.depth() for images in self.sets)

    def channels(self) -> frozenset[int]:
        return frozenset().union(*(images.channels() for images in self.sets))

    def _at(self, index: int) -> tuple[ImageSet, int]:
        place, own = self._find(index)
        return self.sets[place], own

    def _find(self, index: int) -> tuple[int, int]:
        """Find the number of the set of picture ``index``, and its index there."""
        ends = list(accumulate(map(len, self.sets)))
        place = next(place for place, end in enumerate(ends) if index < end)
        return place, index - ends[place] + len(self.sets[place])


@lru_cache(maxsize=8)
def _block(shares: tuple[float, ...], seed: int, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the order of the sets in a block of samples.

    Returns:
        For every sample its set, and how many samples of that set come before it in the block; and for every set the
        number of its samples. These numbers are the shares of ``_BLOCK``, rounded down, and one more for the sets with
        the largest remainders.
    """
    exact = np.array(shares) / sum(shares) * _BLOCK
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: _BLOCK - counts.sum()]] += 1
    places = generator(seed, block, MIXES).permutation(np.repeat(np.arange(len(shares)), counts))
    turns = np.empty(_BLOCK, int)
    for place, count in enumerate(counts):
        turns[places == place] = np.arange(count)
    return places, turns, counts
