"""Limits the memory of the pictures in the pipeline, whatever their number."""

import ctypes
import sys
from threading import Condition


class ClosedError(Exception):
    """The limit was closed: no further picture may enter."""


class MemoryLimit:
    """Lets pictures enter in their order, as long as there is room. A single picture may enter whatever its size.

    Args:
        limit: bytes of the samples of all pictures inside.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._next = 0
        self._closed = False
        self._changed = Condition()

    def enter(self, number: int, size: int) -> None:
        """Wait until all pictures before ``number`` (from 0) have entered and there is room for ``size`` bytes.

        Raises:
            ClosedError: the limit was closed meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._next == number and self._has_room(size)))
            if self._closed:
                raise ClosedError
            self._next += 1
            self._held += size
            self._changed.notify_all()

    def resize(self, by: int) -> None:
        """Change the bytes of a picture inside by ``by``. Its negative size removes it."""
        with self._changed:
            self._held += by
            self._changed.notify_all()

    def close(self) -> None:
        """Raise ``ClosedError`` in all threads that wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        return self._held == 0 or self._held + size <= self._limit


def give_back() -> None:
    """Return freed memory to the system, on Linux with glibc, which otherwise keeps it for the thread that freed it.

    Reading, denoising and writing run in separate threads. For a picture of 100 megapixels, about 200 MB would stay
    with the reading thread while the next step allocates memory of its own.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim is not None:
            trim(0)
