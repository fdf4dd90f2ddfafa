"""The temporary folder of a server, and the removal of folders that killed servers left behind."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from atbsn.utils.log import logger

_PREFIX = "atbsn-page-"
"""Beginning of the names of these folders."""


class OwnFolder:
    """A temporary folder for this user alone. Other servers do not remove it as long as this process lives.

    The process holds a lock in it, which the system frees when the process ends, however it ends. Other servers only
    consider folders with a subfolder ``visitors``, and that is made after the lock is taken.

    Attributes:
        visitors: folder for the files of visitors.
    """

    def __init__(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _lock_of(self._root)
        with suppress(NotImplementedError):  # a file system without locks: then only its own server deletes it
            self._lock.acquire(timeout=0)
        self.visitors = self._root / "visitors"
        self.visitors.mkdir(mode=0o700)

    def remove(self) -> None:
        """Delete the folder with its content."""
        self._lock.release()
        shutil.rmtree(self._root, ignore_errors=True)


def remove_leftovers() -> int:
    """Delete the folders of this user's servers that do not run any more.

    Returns:
        The number of folders that were deleted.
    """
    removed = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if not _is_ours(folder) or not (folder / "visitors").is_dir():
            continue
        lock = _lock_of(folder)
        try:
            with lock.acquire(timeout=0):
                pass
        except (Timeout, OSError, NotImplementedError):  # its server runs, or it was deleted meanwhile, or no locks
            continue
        shutil.rmtree(folder, ignore_errors=True)
        removed += not folder.exists()
    if removed:
        logger.info("Deleted what was handed in to servers that were killed (%d).", removed)
    return removed


def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder / "lock")


def _is_ours(folder: Path) -> bool:
    """Whether ``folder`` is a folder, not a link, of this user. The temporary folder of a system has those of all."""
    try:
        facts = folder.lstat()
    except OSError:
        return False
    return folder.is_dir() and not folder.is_symlink() and (os.name != "posix" or facts.st_uid == os.getuid())
