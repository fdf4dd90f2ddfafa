"""Write files atomically, so that they are whole or not there; and read files of tensors that others made."""

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
"""Names of temporary files."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a full disk."""
_REMEDIES: dict[int | None, str] = {
    **dict.fromkeys(_FULL, "free some space or choose a writable folder"),
    errno.ENAMETOOLONG: "choose a shorter name",
}
"""What to do about errors of the system."""


class FileVersion(NamedTuple):
    """The key of a file's content in a cache. A file that was changed, or lies in another folder, has another key.

    Attributes:
        path: the path as it was given.
        place: the absolute path.
        size: bytes; -1 if there is no such file, so that reading it reports that.
        changed: time of the last change, nanoseconds.
    """

    path: Path
    place: Path
    size: int
    changed: int


def version_of(path: Path) -> FileVersion:
    """Give the key of the file that lies at ``path`` now."""
    try:
        facts = path.stat()
    except OSError:
        return FileVersion(path, path.absolute(), -1, 0)
    return FileVersion(path, path.absolute(), facts.st_size, facts.st_mtime_ns)


def cannot_write(path: Path, error: OSError) -> UserError:
    """Make a message with a remedy of the system's refusal to write ``path``."""
    remedy = _REMEDIES.get(error.errno, "choose a writable folder")
    return UserError(f"{path}: cannot be written ({error.strerror or error}); {remedy}")


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object], aside: Path | None = None) -> None:
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


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files that writers left in ``folder`` and below when they were killed.

    Only for folders that nobody else writes to at the moment.
    """
    for path in folder.rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def read_tensors(path: Path) -> Any:
    """Read what ``torch.save`` wrote to ``path``: tensors and plain values, on the CPU. Nothing in it is executed.

    It is stricter than ``torch.load``, which checks no checksums, and unpacks compressed files, of which a few bytes
    may claim any size.

    Raises:
        Exception: nearly any, if the file is damaged or holds something else.
    """
    import torch

    if zipfile.is_zipfile(path):  # files of torch before 1.6 are no ZIP files
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("it is compressed, as torch never writes it")
            damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(f"the checksum of {damaged} is wrong")
    return torch.load(path, map_location="cpu", weights_only=True)


def _sync_folder(folder: Path) -> None:
    """Write a rename in ``folder`` to disk. Not every platform and file system can, so errors are ignored."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
