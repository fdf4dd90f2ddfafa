"""How many pictures are in memory at once: by their size, whatever their number."""

import ctypes
import sys
from threading import Condition


class ClosedError(Exception):
    """Nobody is let in any more."""


class MemoryLimit:
    """Lets pictures in, in their order, while those that are inside leave room. One alone is let in whatever its size.

    Args:
        limit: bytes of samples.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._next = 0
        self._closed = False
        self._changed = Condition()

    def enter(self, number: int, size: int) -> None:
        """Wait until all before ``number`` (from 0) are in and there is room for ``size`` bytes.

        Raises:
            ClosedError: it was closed meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._next == number and self._has_room(size)))
            if self._closed:
                raise ClosedError
            self._next += 1
            self._held += size
            self._changed.notify_all()

    def resize(self, by: int) -> None:
        """One that is inside needs so many bytes more, or with a negative number less."""
        with self._changed:
            self._held += by
            self._changed.notify_all()

    def close(self) -> None:
        """Send those away that wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        return self._held == 0 or self._held + size <= self._limit


def give_back() -> None:
    """Hand memory that was freed back to the system, where the C library keeps it otherwise: glibc's, on Linux.

    Reading, denoising and writing go on in threads of their own, and each keeps what it freed for itself: beside a
    picture of 100 megapixels about 200 MB, which the next step takes anew.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim is not None:
            trim(0)
