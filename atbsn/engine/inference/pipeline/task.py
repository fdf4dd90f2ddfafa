"""The input of the pipeline: pictures with their sources and targets, and pictures that were refused."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from atbsn.pictures import Picture

EVERYTHING = (slice(None), slice(None))
"""The window, rows and columns, of a whole picture."""


@dataclass(frozen=True)
class Task:
    """A picture that is to be denoised.

    Attributes:
        name: its path below the folder that was searched, with ``/``, or its key in a set. Records use it.
        target: the file of its clean version.
        source: the file that it is read from; None if it is a part of a file.
        read: function that reads it; None: ``source`` is read as a picture file.
        window: rows and columns to keep of the denoised picture; the rest is only context.
        mask: a picture of its size, white where it is denoised and black where it stays as it is; None: all is
            denoised. Records do not contain it.
    """

    name: str
    target: Path
    source: Path | None = None
    read: Callable[[], Picture] | None = None
    window: tuple[slice, slice] = EVERYTHING
    mask: Path | None = None

    @property
    def label(self) -> str:
        """The picture's name in messages."""
        return self.name if self.source is None else str(self.source)


class Refused(NamedTuple):
    """A picture or folder that cannot be done, and the reason."""

    path: Path
    reason: str

    @property
    def label(self) -> str:
        """Its name in messages."""
        return str(self.path)
