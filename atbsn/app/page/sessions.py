"""Sessions of the page and their temporary folders, which are removed with them."""

import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from atbsn.app.page.jobs import BusyError
from atbsn.app.page.leftovers import OwnFolder, remove_leftovers
from atbsn.archs.base import Network
from atbsn.utils.errors import UserError

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff/\\:*?\"<>|\u202a-\u202e\u2066-\u2069]")


@dataclass
class Upload:
    """A picture that was handed in.

    Attributes:
        id: what the browser asks after it by.
        name: as its owner calls it; never used as a path.
        path: where it lies.
        facts: height, width and the like, once it was read.
        icc: its colour profile.
        mask: where what was painted lies, which says where it is denoised; None: everywhere.
        offered: ids of files made from it, by kind, the oldest first.
    """

    id: str
    name: str
    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    icc: bytes | None = None
    mask: Path | None = None
    offered: dict[str, list[list[str]]] = field(default_factory=dict)


class Session:
    """One visitor: a folder, what was handed in, what was computed from it.

    Attributes:
        token: known to the visitor's page alone; whoever knows it is the visitor.
        folder: removed with everything in it when the session ends.
        pictures: by id.
        files: of ``folder``, that may be fetched: path and name by id.
        adapted: a network that learned from these pictures.
        offered: ids of files made from several pictures, as in ``Upload``.
        left: the page said that it closes, or is loaded anew.
    """

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_urlsafe(24)
        self.folder = folder
        self.pictures: dict[str, Upload] = {}
        self.files: dict[str, tuple[Path, str]] = {}
        self.adapted: Network | None = None
        self.offered: dict[str, list[list[str]]] = {}
        self.left = False
        self.seen = time.monotonic()

    def new_upload(self, name: str) -> Upload:
        """A place for a picture called ``name``, in a folder of its own and under a name of ours.

        Raises:
            UserError: the name has no suffix by which a format is known.
        """
        name = plain_name(name)
        suffix = Path(name).suffix
        if not _SUFFIX.fullmatch(suffix):
            raise UserError(f"{name}: a picture's name ends in .jpg, .png, .tif or the like; rename it")
        identity = secrets.token_urlsafe(9)
        folder = self.folder / identity
        folder.mkdir()
        return Upload(identity, name, folder / f"picture{suffix}")

    def offer(self, path: Path, name: str) -> str:
        """Let the visitor fetch ``path`` as ``name``; gives its id."""
        identity = secrets.token_urlsafe(9)
        self.files[identity] = (path, name)
        return identity

    def keep_newest(self, offered: dict[str, list[list[str]]], kind: str, new: list[str], number: int = 1) -> None:
        """Delete all but the newest files of a kind, which ``new`` belong to.

        Args:
            offered: of what they were made from.
        """
        generations = offered.setdefault(kind, [])
        generations.append(new)
        while len(generations) > number:
            for identity in generations.pop(0):
                path, _ = self.files.pop(identity)
                path.unlink(missing_ok=True)

    def remove(self, identity: str) -> None:
        """Delete a picture and all that was computed from it."""
        upload = self.pictures.pop(identity)
        folder = upload.path.parent
        for name, (path, _) in list(self.files.items()):
            if folder in path.parents:
                del self.files[name]
        shutil.rmtree(folder, ignore_errors=True)


class Sessions:
    """All visitors.

    Args:
        most: how many at once.
        idle: seconds after which one who did not ask for anything is gone.
        grace: seconds after which one who left is gone; who only loads the page anew is back before.
        on_end: called with the token before a session's folder is removed.
    """

    def __init__(self, most: int, idle: float, grace: float, on_end: Callable[[str], None]) -> None:
        remove_leftovers()
        self._folder = OwnFolder()
        self.root = self._folder.visitors
        self.most = most
        self.idle = idle
        self.grace = grace
        self.on_end = on_end
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def start(self) -> Session:
        """A new session.

        Raises:
            BusyError: there are as many as there may be.
        """
        self.expire()
        if len(self._sessions) >= self.most:
            self._end_those_who_left()
        with self._lock:
            if len(self._sessions) >= self.most:
                raise BusyError(f"{self.most} pages are open already; close one, and try again.")
            session = Session(Path(tempfile.mkdtemp(dir=self.root)))
            self._sessions[session.token] = session
        return session

    def get(self, token: str) -> Session | None:
        """The session of ``token``, if there is one still."""
        session = self._sessions.get(token)
        if session is not None:
            session.seen = time.monotonic()
        return session

    def leave(self, token: str) -> None:
        """The page says that it closes; that it is only loaded anew, it cannot know."""
        session = self.get(token)
        if session is not None:
            session.left = True

    def come_back(self, session: Session) -> None:
        """The page is open, still or again."""
        session.left = False

    def end(self, token: str) -> None:
        """Forget a session and delete its folder."""
        with self._lock:
            session = self._sessions.pop(token, None)
        if session is not None:
            self.on_end(token)
            shutil.rmtree(session.folder, ignore_errors=True)

    def expire(self) -> None:
        """End the sessions that nobody uses any more."""
        now = time.monotonic()
        for session in list(self._sessions.values()):
            if now - session.seen > (self.grace if session.left else self.idle):
                self.end(session.token)

    def _end_those_who_left(self) -> None:
        for session in list(self._sessions.values()):
            if session.left:
                self.end(session.token)

    def close(self) -> None:
        """End all sessions and delete the root folder."""
        for token in list(self._sessions):
            self.end(token)
        self._folder.remove()


@contextmanager
def own_copies(session: Session) -> Iterator[list[Path]]:
    """The files of all pictures for a long computation: they stay until it ends, also where a picture is removed."""
    folder = Path(tempfile.mkdtemp(dir=session.folder))
    try:
        paths = []
        for upload in list(session.pictures.values()):
            path = folder / f"{upload.id}{upload.path.suffix}"
            try:
                path.hardlink_to(upload.path)
            except OSError:  # a file system without links
                shutil.copyfile(upload.path, path)
            paths.append(path)
        yield paths
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def plain_name(name: str) -> str:
    """The last part of a file's name, whoever's path it is, without what confuses terminals, headers or disks."""
    last = PurePosixPath(PureWindowsPath(name).name).name
    cleaned = _UNPRINTABLE.sub("_", last).strip(" .")
    stem, suffix = Path(cleaned).stem, Path(cleaned).suffix
    return f"{stem[:120]}{suffix[:10]}" or "picture"
