"""Files that are either whole or not there: written aside, flushed to disk, renamed. And reading files of others."""

import contextlib
import errno
import os
import re
import secrets
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from atbsn.utils.errors import UserError

_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REMEDIES: dict[int | None, str] = {
    **dict.fromkeys(_FULL, "free some space or choose a writable folder"),
    errno.ENAMETOOLONG: "choose a shorter name",
}


class FileVersion(NamedTuple):
    """What a file is kept in memory by: one that was changed, or has its name in another folder, is another.

    Attributes:
        path: as it was given.
        place: the same from the root.
        size: bytes; -1 if it is not there, which reading it then tells.
        changed: when it was written, nanoseconds.
    """

    path: Path
    place: Path
    size: int
    changed: int


def version_of(path: Path) -> FileVersion:
    """Which file, and which version of it, lies at ``path`` now."""
    try:
        facts = path.stat()
    except OSError:
        return FileVersion(path, path.absolute(), -1, 0)
    return FileVersion(path, path.absolute(), facts.st_size, facts.st_mtime_ns)


def cannot_write(path: Path, error: OSError) -> UserError:
    """The system's refusal to write ``path``, as a message with a remedy."""
    remedy = _REMEDIES.get(error.errno, "choose a writable folder")
    return UserError(f"{path}: cannot be written ({error.strerror or error}); {remedy}")


def write_atomically(path: Path, write: Callable[[BinaryIO], object], aside: Path | None = None) -> None:
    """Call ``write`` on a temporary file, flush it to disk and rename it to ``path``.

    A reader sees the old file or the new one, whatever interrupts the writing.

    Args:
        aside: folder of the temporary file, on the same file system; None: that of ``path``.

    Raises:
        UserError: the folder cannot be written or the disk is full; the old file is untouched.
    """
    path = Path(path)
    temporary = (path.parent if aside is None else aside) / f".{secrets.token_hex(8)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that writers left in ``folder`` and below when they were killed.

    Only for folders that nobody else writes to at the moment.
    """
    for path in folder.rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def read_tensors(path: Path) -> Any:
    """What ``torch.save`` wrote to ``path``: tensors and plain values, on the CPU. Nothing in it is executed.

    Stricter than ``torch.load``, which checks no checksum and unpacks what a few compressed bytes claim to be.

    Raises:
        Exception: of nearly any kind, when the file is damaged or holds anything else.
    """
    import torch

    if zipfile.is_zipfile(path):  # files of torch before 1.6 are not
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("it is compressed, as torch never writes it")
            damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(f"the checksum of {damaged} is wrong")
    return torch.load(path, map_location="cpu", weights_only=True)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable. Not every platform and file system can, so a refusal is no fault."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
