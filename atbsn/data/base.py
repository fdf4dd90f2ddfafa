"""What every data set is: a list of named pictures, some with references."""

import inspect
import os
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from atbsn.pictures import Picture
from atbsn.utils.dist import is_main
from atbsn.utils.errors import UserError

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

    def nearly_clean(self, index: int) -> bool:
        """Whether picture ``index`` is clean enough to put noise on and to learn from."""
        del index
        return False

    def source(self, index: int) -> Path | None:
        """The file that picture ``index`` is read from; None where it is a part of one."""
        del index
        return None

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

    def preload(self) -> None:
        """Make ``crop`` cheap: decode every picture once, in parallel, and keep it as uint8.

        Sets whose records can be cropped without decoding (raw LMDB, arrays in memory) override this with
        nothing.

        Raises:
            UserError: the decoded pictures would not fit in memory, or one cannot be read.
        """
        if self._decoded is not None:
            return
        self._check_memory()
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            pictures = pool.map(lambda index: self.read(index).rgb8(), range(len(self)))
            quiet = None if is_main() else True  # None: where the output is no terminal
            bar = tqdm(pictures, total=len(self), desc="decode", unit="image", leave=False, disable=quiet)
            self._decoded = list(bar)

    def crop(self, index: int, top: int, left: int, size: int) -> np.ndarray:
        """A (size, size, 3) uint8 RGB crop of picture ``index``, a view or a copy. Fast once preloaded."""
        picture = self.read(index).rgb8() if self._decoded is None else self._decoded[index]
        return picture[top : top + size, left : left + size]

    def _check_memory(self) -> None:
        sizes = (self.size(index) for index in range(len(self)))
        needed, available = sum(3 * height * width for height, width in sizes), available_memory()
        if available is not None and needed > _MEMORY_SHARE * available:
            raise UserError(
                f"{len(self)} pictures: decoded they take {needed / 1e9:.1f} GB, more than "
                f"{_MEMORY_SHARE:.0%} of the {available / 1e9:.1f} GB of memory available; prepare an LMDB "
                f"(python scripts/prepare_data.py folder) and set io_backend: lmdb, or use fewer pictures"
            )


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
