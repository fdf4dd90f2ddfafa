"""The manifest of a folder of results: a file with one line for each picture that is done. Lines are only appended.

Reading it back takes 24 bytes of memory for each picture.
"""

import json
import os
import shutil
import time
from array import array
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from atbsn.engine.inference.pipeline.shards import Shard, hash64
from atbsn.utils.errors import UserError
from atbsn.utils.files import cannot_write

_PATIENCE = 10
"""Seconds to wait for a lock. Chosen by hand: another shard holds it for a moment while it removes leftovers."""
MANIFEST_FOLDER = "manifest"
"""Name of the folder with the manifests, in a folder of results."""


def has_results(folder: Path) -> bool:
    """Whether ``folder`` is a folder of results: it has a manifest."""
    return any((folder / MANIFEST_FOLDER).glob("done-*.jsonl"))


class DoneEntry(NamedTuple):
    """One picture that is done: one line of a manifest.

    Attributes:
        name: its path below the folder that was searched, with ``/``, or its key in a set.
        size: bytes of the noisy file; for a part of a file, bytes of its samples.
        mtime_ns: time of the last change of that file, nanoseconds; for a part of a file, a checksum of its samples.
        target: path of the clean file, below the output folder.
        bytes: size of the clean file.
        settings: checksum of the weights and settings (``about.fingerprint``).
    """

    name: str
    size: int
    mtime_ns: int
    target: str
    bytes: int
    settings: str


class DonePictures:
    """The pictures of ``shard`` that are done, according to all manifests in ``folder``, whichever shards wrote them.

    If a picture has several lines, the latest counts. A line that was cut off is ignored.
    """

    def __init__(self, folder: Path, shard: Shard) -> None:
        names, times, entries = array("Q"), array("d"), array("Q")
        for path in folder.glob("done-*.jsonl"):
            with path.open("rb") as file:
                for line in file:
                    with suppress(ValueError, KeyError, TypeError, AttributeError):
                        found = json.loads(line)
                        at = float(found.pop("time"))
                        entry = DoneEntry(**found)
                        if shard.holds(entry.name):
                            names.append(hash64(entry.name))
                            times.append(at)
                            entries.append(_hash(entry))
        order = np.lexsort((np.array(times, np.float64), np.array(names, np.uint64)))
        by_name = np.array(names, np.uint64)[order]
        last = np.ones(len(order), bool)
        last[:-1] = by_name[1:] != by_name[:-1]
        self._names, self._entries = by_name[last], np.array(entries, np.uint64)[order][last]

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, entry: DoneEntry) -> bool:
        place = self._place(entry.name)
        return place is not None and int(self._entries[place]) == _hash(entry)

    def has_name(self, name: str) -> bool:
        """Whether a picture of this name was done, in any version and with any settings."""
        return self._place(name) is not None

    def _place(self, name: str) -> int | None:
        wanted = np.uint64(hash64(name))
        place = int(np.searchsorted(self._names, wanted))
        return place if place < len(self) and self._names[place] == wanted else None


class DoneManifest:
    """The manifest that this process writes, ``folder/done-<shard>.jsonl``, and the folder of its temporary files.

    Args:
        resume: append to an existing file; otherwise begin an empty one.

    Raises:
        UserError: another process works on the same shard of this folder, or the file cannot be written.
    """

    def __init__(self, folder: Path, shard: Shard, resume: bool) -> None:
        self._mutex = Lock()
        self.temporary = folder / f".{shard}.tmp"
        self._path = folder / f"done-{shard}.jsonl"
        self._lock = FileLock(folder / f".{shard}.lock")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=_PATIENCE)
            _remove_leftovers(folder)
            self.temporary.mkdir(exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
            if not resume:
                os.ftruncate(self._file, 0)
            self._end_line()
        except Timeout:
            raise UserError(
                f"{folder}: another process is doing shard {shard} of these pictures; wait for it, or give --shard or "
                "another --output"
            ) from None
        except OSError as error:
            raise cannot_write(folder, error) from error

    def add(self, entry: DoneEntry) -> None:
        """Append a picture whose clean file is complete. Several threads may call this at once."""
        line = json.dumps({**entry._asdict(), "time": time.time()}) + "\n"
        with self._mutex:
            os.write(self._file, line.encode())

    def close(self) -> None:
        """Close the file and let another process work on this shard."""
        os.close(self._file)
        shutil.rmtree(self.temporary, ignore_errors=True)
        self._lock.release()

    def _end_line(self) -> None:
        """End the last line, which a killed process may have left cut off, so that the next one begins a new line."""
        size = os.fstat(self._file).st_size
        if size:
            os.lseek(self._file, size - 1, os.SEEK_SET)
            if os.read(self._file, 1) != b"\n":
                os.write(self._file, b"\n")


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that have ended: those whose lock nobody holds."""
    for path in folder.glob(".*.tmp"):
        with suppress(Timeout), FileLock(path.with_suffix(".lock"), timeout=0):
            shutil.rmtree(path, ignore_errors=True)


def _hash(entry: DoneEntry) -> int:
    return hash64(json.dumps(entry))
