"""What the pipeline is given: pictures with their places, and those that cannot be done."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from atbsn.pictures import Picture

EVERYTHING = (slice(None), slice(None))
"""Rows and columns of a picture that is kept whole."""


@dataclass(frozen=True)
class Task:
    """A picture that is to be denoised.

    Attributes:
        name: its path below the folder that was searched, with ``/``, or its key in a set; records go by it.
        target: the file of its clean version.
        source: the file that it is read from; None where it is a part of one.
        read: reads it; None: as a picture file, from ``source``.
        window: rows and columns to keep once it is denoised; what is around them is only context.
        mask: a picture of its size, white where it is denoised and black where it stays as it is; None: white all over.
            Records do not know of it.
    """

    name: str
    target: Path
    source: Path | None = None
    read: Callable[[], Picture] | None = None
    window: tuple[slice, slice] = EVERYTHING
    mask: Path | None = None

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.name if self.source is None else str(self.source)


class Refused(NamedTuple):
    """A picture, or a folder, that cannot be done, and why."""

    path: Path
    reason: str

    @property
    def label(self) -> str:
        """What messages call it."""
        return str(self.path)
