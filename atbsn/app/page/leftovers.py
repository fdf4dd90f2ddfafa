"""The temporary folder of a server, and those that servers left behind which were killed."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from atbsn.utils.log import logger

_PREFIX = "atbsn-page-"


class OwnFolder:
    """A temporary folder for this user alone, which other servers leave alone as long as this process lives.

    Its lock is held by the process, so the system itself lets go of it, whatever ends the process. Others look at a
    folder only if ``visitors`` is in it, which is made when the lock is held.

    Attributes:
        visitors: what is to be kept goes in here.
    """

    def __init__(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _lock_of(self._root)
        with suppress(NotImplementedError):  # a file system without locks: then nobody deletes it but its own server
            self._lock.acquire(timeout=0)
        self.visitors = self._root / "visitors"
        self.visitors.mkdir(mode=0o700)

    def remove(self) -> None:
        """Delete it with all that is in it."""
        self._lock.release()
        shutil.rmtree(self._root, ignore_errors=True)


def remove_leftovers() -> int:
    """Delete the folders of servers of this user that do not run any more, and what was handed in to them.

    Returns:
        How many there were.
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
    """Whether it is a folder, no link to one, and of this user: in a temporary folder of all users others may lie."""
    try:
        facts = folder.lstat()
    except OSError:
        return False
    return folder.is_dir() and not folder.is_symlink() and (os.name != "posix" or facts.st_uid == os.getuid())
