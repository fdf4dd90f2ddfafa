"""What every data set is: a list of named pictures, some with references."""

import os
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from atbsn.utils.image import Picture


class ImageSet(ABC):
    """A list of named noisy pictures, with or without clean references.

    A subclass says where pictures are (``__len__``, ``key``, ``size``) and reads one (``read``, and
    ``read_clean`` if ``has_clean``). Patches, orders, workers and devices are not its business: see
    ``atbsn.data.patches`` and ``atbsn.data.loader``.
    """

    has_clean: bool = False

    _decoded: list[np.ndarray] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """How many pictures there are."""

    @abstractmethod
    def key(self, index: int) -> str:
        """The unique name of picture ``index``: a relative path with '/' and without extension."""

    @abstractmethod
    def read(self, index: int) -> Picture:
        """Read noisy picture ``index`` from its file, with all that is needed to write its like."""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """Height and width of picture ``index``, without decoding it where the format allows."""

    def read_clean(self, index: int) -> Picture:
        """Read the reference of picture ``index``; only where ``has_clean``."""
        raise TypeError(f"{type(self).__name__} has no references (asked for {self.key(index)})")

    def groups(self, index: int) -> dict[str, str]:
        """Labels to average over, such as ``{"iso": "800"}``; none by default."""
        del index
        return {}

    def preload(self) -> None:
        """Make ``crop`` cheap: decode every picture once, in parallel, and keep it as uint8.

        Sets whose records can be cropped without decoding (raw LMDB, arrays in memory) override this with
        nothing.
        """
        if self._decoded is None:
            with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
                read = pool.map(lambda index: self.read(index).rgb8(), range(len(self)))
                self._decoded = list(tqdm(read, total=len(self), desc="decode", unit="image", leave=False))

    def crop(self, index: int, top: int, left: int, size: int) -> np.ndarray:
        """A (size, size, 3) uint8 RGB crop of noisy picture ``index``. Fast after ``preload``."""
        picture = self.read(index).rgb8() if self._decoded is None else self._decoded[index]
        return picture[top : top + size, left : left + size]
