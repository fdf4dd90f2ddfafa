"""Sessions of the page, and their temporary folders, which are removed with them."""

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
"""The suffix of a picture file."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff/\\:*?\"<>|\u202a-\u202e\u2066-\u2069]")


"""Characters that are replaced in file names: control characters, lone surrogates, those that a file system forbids,
and those that change the direction of text."""


@dataclass
class Upload:
    """A picture that a visitor uploaded.

    Attributes:
        id: a random name, which the browser uses.
        name: the file name that the visitor gave; never used as a path.
        path: the file.
        facts: the description of the picture for the page: height, width and so on. Empty before it is read.
        icc: its colour profile.
        mask: file of the mask in the size of the view; None: all is denoised.
        offered: ids of files made from it, by kind. Each list holds the files of one computation, the oldest first.
    """

    id: str
    name: str
    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    icc: bytes | None = None
    mask: Path | None = None
    offered: dict[str, list[list[str]]] = field(default_factory=dict)


class Session:
    """One visitor: a folder, the uploaded pictures, and the files computed from them.

    Attributes:
        token: a secret that only the visitor's page knows. Whoever knows it counts as the visitor.
        folder: folder of all files; it is removed when the session ends.
        pictures: uploaded pictures by id.
        files: path and name of each file in ``folder`` that may be downloaded, by id.
        adapted: the network that was adapted to these pictures; None: there is none.
        offered: ids of files made from several pictures, as in ``Upload``.
        left: whether the page said that it closes or reloads.
        seen: time of the last request, in seconds of ``time.monotonic``.
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
        """Make a folder for a picture called ``name``. Its file there has a name of ours.

        Raises:
            UserError: ``name`` has no suffix.
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
        """Let the visitor download ``path`` as ``name``; returns its id."""
        identity = secrets.token_urlsafe(9)
        self.files[identity] = (path, name)
        return identity

    def keep_newest(self, offered: dict[str, list[list[str]]], kind: str, new: list[str], number: int = 1) -> None:
        """Add the files of a computation, and delete all but those of the newest computations of this kind.

        Args:
            offered: ``offered`` of the picture or of the session.
            kind: kind of the computation.
            new: ids of its files.
            number: computations whose files are kept.
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
    """The sessions of all visitors.

    Args:
        max_sessions: most sessions at the same time.
        idle: seconds without a request after which a session ends.
        grace: seconds after which the session of a closed page ends. A reloaded page is back before that.
        on_end: called with the token before a session's folder is removed.
    """

    def __init__(self, max_sessions: int, idle: float, grace: float, on_end: Callable[[str], None]) -> None:
        remove_leftovers()
        self._folder = OwnFolder()
        self.root = self._folder.visitors
        self.max_sessions = max_sessions
        self.idle = idle
        self.grace = grace
        self.on_end = on_end
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def start(self) -> Session:
        """Start a session.

        Raises:
            BusyError: there are too many sessions.
        """
        self.expire()
        if len(self._sessions) >= self.max_sessions:
            self._end_those_who_left()
        with self._lock:
            if len(self._sessions) >= self.max_sessions:
                raise BusyError(f"{self.max_sessions} pages are open already; close one, and try again.")
            session = Session(Path(tempfile.mkdtemp(dir=self.root)))
            self._sessions[session.token] = session
        return session

    def get(self, token: str) -> Session | None:
        """The session of ``token``; None if there is none."""
        session = self._sessions.get(token)
        if session is not None:
            session.seen = time.monotonic()
        return session

    def leave(self, token: str) -> None:
        """Note that the page of this session closes. It cannot know whether it only reloads."""
        session = self.get(token)
        if session is not None:
            session.left = True

    def come_back(self, session: Session) -> None:
        """Note that the page is still open, or open again."""
        session.left = False

    def end(self, token: str) -> None:
        """End a session and delete its folder."""
        with self._lock:
            session = self._sessions.pop(token, None)
        if session is not None:
            self.on_end(token)
            shutil.rmtree(session.folder, ignore_errors=True)

    def expire(self) -> None:
        """End the sessions whose time is over."""
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
    """Copies of all pictures' files for a long computation. They exist until it ends, even if a picture is removed."""
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
    """The file name at the end of a path of any system, without characters that confuse terminals, headers or disks."""
    last = PurePosixPath(PureWindowsPath(name).name).name
    cleaned = _UNPRINTABLE.sub("_", last).strip(" .")
    stem, suffix = Path(cleaned).stem, Path(cleaned).suffix
    return f"{stem[:120]}{suffix[:10]}" or "picture"
