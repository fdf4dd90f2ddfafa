"""What every data set is: a list of named pictures, some with references."""

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
"""The value that is white in files of 16 bits or floating point, as ``read_picture`` takes it."""

_MEMORY_SHARE = 0.8
"""Decoded pictures may take this part of the memory that is available."""


class ImageSet(ABC):
    """A list of named noisy pictures, with or without clean references.

    A subclass says where pictures are (``__len__``, ``key``, ``size``) and reads one (``read``, and
    ``read_clean`` if ``has_clean``). Patches, orders, workers and devices are not its business: see
    ``atbsn.data.patches`` and ``atbsn.data.loader``.
    """

    has_clean: bool = False
    submission: str | None = None
    """The benchmark that ``test.py`` writes a submission for, by its name in ``atbsn.engine.inference.submission``."""

    _decoded: list[np.ndarray] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """How many pictures there are."""

    @abstractmethod
    def key(self, index: int) -> str:
        """The unique name of picture ``index``: a relative path with '/', without extension unless two differ in it."""

    @abstractmethod
    def read(self, index: int) -> Picture:
        """Read noisy picture ``index`` from its file, with all that is needed to write a picture of the same kind."""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """Height and width of picture ``index``, without decoding it where the format allows."""

    def clean_size(self, index: int) -> tuple[int, int]:
        """Height and width of the reference of picture ``index``, which must be those of the picture."""
        return self.size(index)

    def read_clean(self, index: int) -> Picture:
        """Read the reference of picture ``index``; only where ``has_clean``."""
        raise TypeError(f"{type(self).__name__} has no references (asked for {self.key(index)})")

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any] | None:
        """Constructor arguments of a tiny set, written to ``folder``, which the tests of all sets use.

        None where a set cannot be made in a few lines; it then has a test of its own.
        """
        needs = [each for each in inspect.signature(cls).parameters.values() if each.default is each.empty]
        return None if needs else {}

    def pick(self, seed: int, number: int) -> int:
        """Which picture sample ``number`` of a training with this seed is cut from, whatever was drawn before."""
        return in_turn(seed, number, len(self))

    def nearly_clean(self, index: int) -> bool:
        """Whether picture ``index`` is clean enough to put noise on and to learn from."""
        del index
        return False

    def source(self, index: int) -> Path | None:
        """The file that picture ``index`` is read from; None where it is a part of one."""
        del index
        return None

    def suffix(self, index: int) -> str:
        """Suffix of the file that the denoised picture ``index`` is written to; PNG, where it was a part of a file."""
        source = self.source(index)
        return ".png" if source is None else written_suffix(source)

    def window(self, index: int) -> tuple[slice, slice]:
        """Rows and columns of picture ``index`` to keep once it is denoised; what is around them is only context."""
        del index
        return slice(None), slice(None)

    def groups(self, index: int) -> dict[str, str]:
        """Labels to average over, such as ``{"iso": "800"}``; none by default."""
        del index
        return {}

    def keep_usable(self, least: int) -> None:
        """Leave out, saying so, what cannot be read or has a side of fewer than ``least`` pixels, where a set may be of
        fewer pictures; called before training.
        """
        return  # most sets mean something as a whole

    def samples(self, index: int) -> np.ndarray:
        """Picture ``index`` as training keeps it: (H, W, C), uint8, uint16 or float32 in [0, 255], as its file has it.

        C is 1 where the picture is grey, 3 where it is RGB, or as many as it has.
        """
        return kept_samples(self.read(index))

    def preload(self) -> None:
        """Make ``crop`` cheap: decode every picture once, in parallel, and keep its ``samples``.

        Sets whose records can be cropped without decoding (raw LMDB, arrays in memory) override this with
        nothing.

        Raises:
            UserError: the decoded pictures would not fit in memory, or one cannot be read.
        """
        if self._decoded is not None:
            return
        memory = self._memory()
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            pictures = pool.map(lambda index: memory.hold(self.samples(index)), range(len(self)))
            quiet = None if is_main() else True  # None: where the output is no terminal
            bar = tqdm(pictures, total=len(self), desc="decode", unit="image", leave=False, disable=quiet)
            self._decoded = list(bar)

    def crop(self, index: int, top: int, left: int, size: int) -> np.ndarray:
        """A (size, size, 3) RGB crop of picture ``index``, a view or a copy, of the type of its ``samples``.

        Fast once preloaded. Of a grey picture the three channels may be one in memory; one of more than three has its
        own.
        """
        samples = self.samples(index) if self._decoded is None else self._decoded[index]
        return as_rgb(samples[top : top + size, left : left + size])

    def depth(self) -> np.dtype:
        """The deepest type of all crops: uint8, uint16 or float32. Fast once preloaded."""
        return deepest(self.crop(index, 0, 0, 1).dtype for index in range(len(self)))

    def channels(self) -> frozenset[int]:
        """How many channels there are in the ``samples`` of the pictures. Fast once preloaded."""
        return frozenset({3} if self._decoded is None else (samples.shape[2] for samples in self._decoded))

    def _memory(self) -> "Memory":
        """What there is for the decoded pictures; a ``UserError`` if it cannot be enough."""
        memory = Memory(len(self))
        sizes = (self.size(index) for index in range(len(self)))
        memory.check(sum(height * width for height, width in sizes))  # one byte a pixel at least
        return memory


class Memory:
    """Keeps decoded pictures from taking more than their share of the memory.

    Args:
        pictures: how many there are, for the message.
    """

    def __init__(self, pictures: int) -> None:
        self._pictures, self._available = pictures, available_memory()
        self._held = 0
        self._lock = Lock()

    def hold(self, samples: np.ndarray) -> np.ndarray:
        """``samples``, once they are counted; a ``MemoryShortError`` if they are too much."""
        with self._lock:
            self._held += samples.nbytes
            self.check(self._held)
        return samples

    def check(self, needed: int) -> None:
        """Raise a ``MemoryShortError`` where ``needed`` bytes are too much."""
        if self._available is not None and needed > _MEMORY_SHARE * self._available:
            raise MemoryShortError(
                f"{self._pictures} pictures: decoded they take {needed / 1e9:.1f} GB or more, which is over "
                f"{_MEMORY_SHARE:.0%} of the {self._available / 1e9:.1f} GB of memory available; prepare an LMDB "
                f"(atbsn prepare folder) and set io_backend: lmdb, or use fewer pictures"
            )


class MemoryShortError(UserError):
    """There is less memory than the decoded pictures take."""


def kept_samples(picture: Picture) -> np.ndarray:
    """What training keeps of ``picture``: (H, W, 1) of a grey one, else all its channels; of the type of its file."""
    return picture.rgb[..., :1].copy() if picture.grey else picture.rgb


def picture_of(samples: np.ndarray) -> Picture:
    """The picture whose ``kept_samples`` are ``samples``."""
    return Picture(np.ascontiguousarray(as_rgb(samples)), grey=samples.shape[2] == 1)


def as_rgb(samples: np.ndarray) -> np.ndarray:
    """(H, W, 3) of (H, W, 1), without a copy: the channels of a grey picture are one in memory. Others stay."""
    return samples if samples.shape[2] != 1 else np.broadcast_to(samples, (*samples.shape[:2], 3))


def deepest(types: Iterable[np.dtype]) -> np.dtype:
    """The one of uint8, uint16 and float32 that holds all of ``types``."""
    return max(set(types), key=lambda kind: kind.itemsize)


def listing(folder: Path) -> str:
    """What is in ``folder``, for a message about what is not."""
    if not folder.is_dir():
        return f"no folder {folder}"
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more or "nothing"


def available_memory() -> int | None:
    """Bytes of memory this process may still take, in its container too; None where it cannot be told."""
    limits = []
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        limits.append(1024 * int(fields["MemAvailable"].split()[0]))
        group = Path("/sys/fs/cgroup")
        limits.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError, KeyError):  # no Linux, no cgroup, or no limit ("max")
        pass
    return min(limits, default=None)
