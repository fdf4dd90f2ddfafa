"""The base class of data sets: a list of named pictures, with or without references."""

import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from atbsn.data.stream import in_turn
from atbsn.pictures import Picture
from atbsn.pictures.formats import written_suffix
from atbsn.utils.dist import is_main
from atbsn.utils.errors import UserError
from atbsn.utils.types import PositiveFloat

White = PositiveFloat | Literal["auto"]
"""The value of white in files of 16 bits or floating point, as for ``read_picture``."""

_MEMORY_SHARE = 0.8
"""Largest share of the available memory that decoded pictures may take. Chosen by hand."""
_MAX_LISTED = 5
"""Most files of a folder that a message names. Chosen by hand."""


class ImageSet(ABC):
    """A list of named noisy pictures, with or without clean references.

    A subclass finds the pictures (``__len__``, ``key``, ``size``) and reads them (``read``, and ``read_clean`` if
    ``has_clean``). Patches, their order, workers and devices are in ``atbsn.data.patches`` and ``atbsn.data.loader``.
    """

    has_clean: bool = False
    """Whether there are references."""
    submission: str | None = None
    """The benchmark that ``atbsn test`` writes a submission for, by its name in ``engine.inference.submission``."""

    _decoded: list[np.ndarray] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """The number of pictures."""

    @abstractmethod
    def key(self, index: int) -> str:
        """The unique name of picture ``index``: a relative path with '/'.

        It has no extension, unless two pictures differ only in that.
        """

    @abstractmethod
    def read(self, index: int) -> Picture:
        """Read noisy picture ``index``, with all that is needed to write a picture of the same kind."""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """Height and width of picture ``index``, without decoding it if the format allows."""

    def clean_size(self, index: int) -> tuple[int, int]:
        """Height and width of the reference of picture ``index``, which must be the same as those of the picture."""
        return self.size(index)

    def read_clean(self, index: int) -> Picture:
        """Read the reference of picture ``index``; only if ``has_clean``."""
        raise TypeError(f"{type(self).__name__} has no references (asked for {self.key(index)})")

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any] | None:
        """Write a tiny set to ``folder`` for the tests of all sets, and return the constructor arguments for it.

        None if such a set cannot be made in a few lines; it then has tests of its own.
        """
        needs = [each for each in inspect.signature(cls).parameters.values() if each.default is each.empty]
        return None if needs else {}

    def pick(self, seed: int, number: int) -> int:
        """Choose the picture that sample ``number`` of a training with this seed is cut from.

        The result does not depend on what was chosen before.
        """
        return in_turn(seed, number, len(self))

    def nearly_clean(self, index: int) -> bool:
        """Whether picture ``index`` is clean enough to be a target, with noise added to it as the input."""
        del index
        return False

    def source(self, index: int) -> Path | None:
        """The file that picture ``index`` is read from; None if it is a part of a file."""
        del index
        return None

    def suffix(self, index: int) -> str:
        """Suffix of the file that the denoised picture ``index`` is written to; ``.png`` if it is a part of a file."""
        source = self.source(index)
        return ".png" if source is None else written_suffix(source)

    def window(self, index: int) -> tuple[slice, slice]:
        """Rows and columns of picture ``index`` that are kept when it is denoised; the rest is context."""
        del index
        return slice(None), slice(None)

    def groups(self, index: int) -> dict[str, str]:
        """Labels of picture ``index``, such as ``{"iso": "800"}``; results are also averaged over pictures by label."""
        del index
        return {}

    def keep_usable(self, min_side: int) -> None:
        """Leave out pictures that cannot be read or have a side of fewer than ``min_side`` pixels, and log them.

        It is called before a training. Only sets that may have fewer pictures, such as a folder, do this.
        """
        return  # most sets are only meaningful as a whole

    def samples(self, index: int) -> np.ndarray:
        """Read picture ``index`` as training keeps it: (H, W, C), of the type of its file.

        The type is uint8, uint16, or float32 in [0, 255]. C is 1 for a grey picture, 3 for RGB, or another number.
        """
        return kept_samples(self.read(index))

    def preload(self) -> None:
        """Make ``crop`` fast: decode every picture once, in parallel, and keep its ``samples``.

        Sets that can be cropped without decoding (a raw LMDB, arrays in memory) override this by doing nothing.

        Raises:
            UserError: the decoded pictures would not fit in memory, or one cannot be read.
        """
        if self._decoded is not None:
            return
        memory = self._memory()
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            pictures = pool.map(lambda index: memory.hold(self.samples(index)), range(len(self)))
            quiet = None if is_main() else True  # None: no bar if the output is not a terminal
            bar = tqdm(pictures, total=len(self), desc="decode", unit="image", leave=False, disable=quiet)
            self._decoded = list(bar)

    def crop(self, index: int, top: int, left: int, size: int) -> np.ndarray:
        """Crop picture ``index``: (size, size, 3), RGB, a view or a copy, of the type of its ``samples``.

        It is fast after ``preload``. The three channels of a grey picture may be the same memory. A picture with more
        than three channels keeps them all.
        """
        samples = self.samples(index) if self._decoded is None else self._decoded[index]
        return as_rgb(samples[top : top + size, left : left + size])

    def depth(self) -> np.dtype:
        """The type that holds all crops: uint8, uint16 or float32. It is fast after ``preload``."""
        return deepest(self.crop(index, 0, 0, 1).dtype for index in range(len(self)))

    def channels(self) -> frozenset[int]:
        """The numbers of channels of the ``samples`` of all pictures. It is fast after ``preload``."""
        return frozenset({3} if self._decoded is None else (samples.shape[2] for samples in self._decoded))

    def _memory(self) -> "Memory":
        """Make a count of the memory for decoded pictures; raise a ``UserError`` if it cannot suffice."""
        memory = Memory(len(self))
        sizes = (self.size(index) for index in range(len(self)))
        memory.check(sum(height * width for height, width in sizes))  # at least one byte for each pixel
        return memory


class Memory:
    """Counts the memory of decoded pictures, and refuses more than their share of what is available.

    Args:
        pictures: number of pictures, for the message.
    """

    def __init__(self, pictures: int) -> None:
        self._pictures, self._available = pictures, available_memory()
        self._held = 0
        self._lock = Lock()

    def hold(self, samples: np.ndarray) -> np.ndarray:
        """Count ``samples`` and return them; raise a ``MemoryShortError`` if they are too much."""
        with self._lock:
            self._held += samples.nbytes
            self.check(self._held)
        return samples

    def check(self, needed: int) -> None:
        """Raise a ``MemoryShortError`` if ``needed`` bytes are too much."""
        if self._available is not None and needed > _MEMORY_SHARE * self._available:
            raise MemoryShortError(
                f"{self._pictures} pictures: decoded they take {needed / 1e9:.1f} GB or more, which is over "
                f"{_MEMORY_SHARE:.0%} of the {self._available / 1e9:.1f} GB of memory available; prepare an LMDB "
                f"(atbsn prepare folder) and set io_backend: lmdb, or use fewer pictures"
            )


class MemoryShortError(UserError):
    """There is less memory than the decoded pictures take."""


def kept_samples(picture: Picture) -> np.ndarray:
    """Give what training keeps of ``picture``: (H, W, 1) if it is grey, else all channels; of the type of its file."""
    return picture.rgb[..., :1].copy() if picture.grey else picture.rgb


def picture_of(samples: np.ndarray) -> Picture:
    """Make the picture whose ``kept_samples`` are ``samples``."""
    return Picture(np.ascontiguousarray(as_rgb(samples)), grey=samples.shape[2] == 1)


def as_rgb(samples: np.ndarray) -> np.ndarray:
    """Repeat the channel of (H, W, 1) to (H, W, 3) without a copy; the three share memory. Others are not changed."""
    return samples if samples.shape[2] != 1 else np.broadcast_to(samples, (*samples.shape[:2], 3))


def deepest(types: Iterable[np.dtype]) -> np.dtype:
    """Give the one of uint8, uint16 and float32 that holds all of ``types``."""
    return max(set(types), key=lambda kind: kind.itemsize)


def listing(folder: Path) -> str:
    """Say what is in ``folder``, for a message about something that is missing."""
    if not folder.is_dir():
        return f"no folder {folder}"
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more or "nothing"


def available_memory() -> int | None:
    """Bytes of memory that this process may still take, also in a container; None if the system does not tell."""
    limits = []
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        limits.append(1024 * int(fields["MemAvailable"].split()[0]))
        group = Path("/sys/fs/cgroup")
        limits.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError, KeyError):  # no Linux, no cgroup, or no limit ("max")
        pass
    return min(limits, default=None)
