"""The queue of computations: one runs at a time, in the order of the requests."""

import secrets
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from atbsn.utils.errors import UserError
from atbsn.utils.log import logger

MAX_WAITING = 32
"""Most jobs in the queue, all sessions together. Chosen by hand: more would wait for many minutes."""
MAX_PER_SESSION = 6
"""Most jobs of one session in the queue. Chosen by hand: a page asks for no more than this at a time."""
_MAX_STEP_SECONDS = 60.0
"""Seconds to wait for a computation that was asked to stop. Chosen by hand: a tile takes a second or two on a slow
CPU."""


class StoppedError(Exception):
    """Raised inside a job that was asked to stop."""


class BusyError(UserError):
    """The server is busy: the same request may succeed later."""


class PageJob:
    """A computation that waits, runs or has ended.

    Attributes:
        id: a random name, which the browser uses.
        owner: token of the session that it belongs to.
        kind: what it computes.
        picture: id of its picture; None: several.
        state: ``"waiting"``, ``"running"``, ``"done"``, ``"failed"`` or ``"stopped"``.
        share: share that is done, 0 to 1.
        message: what it is doing, in words; after a failure the error.
        result: its result.
    """

    def __init__(self, owner: str, kind: str, work: "Callable[[PageJob], Any]", picture: str | None = None) -> None:
        self.id = secrets.token_urlsafe(12)
        self.owner = owner
        self.kind = kind
        self.picture = picture
        self.state = "waiting"
        self.share = 0.0
        self.message = ""
        self.result: Any = None
        self._work = work
        self._stop = threading.Event()
        self._over = threading.Event()

    def note(self, share: float, message: str | None = None) -> None:
        """Note the progress of the work."""
        self.share = min(1.0, max(0.0, share))
        if message is not None:
            self.message = message

    def progress(self, share: float, message: str | None = None) -> None:
        """Note the progress of the work.

        Raises:
            StoppedError: the job was asked to stop.
        """
        self.note(share, message)
        if self._stop.is_set():
            raise StoppedError

    def should_stop(self) -> bool:
        """Whether the work was asked to stop."""
        return self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most ``seconds``; returns whether it has."""
        return self._over.wait(seconds)

    def run(self) -> None:
        """Do the work. An error becomes the message."""
        self.state = "running"
        state = "failed"
        try:
            self.progress(0.0)
            self.result = self._work(self)
            state = "done"
        except StoppedError:
            state, self.message = "stopped", "Stopped."
        except UserError as error:
            self.message = str(error)
        except Exception as error:
            self.message = in_plain_words(error)
        finally:
            self._finish(state)

    def cancel(self) -> None:
        """End a job that has not started."""
        self.message = "Stopped."
        self._finish("stopped")

    def ask_to_stop(self) -> None:
        """Ask it to end at its next step."""
        self._stop.set()

    def _finish(self, state: str) -> None:
        self.state = state
        self._work = _nothing  # frees the pictures that the work holds
        self._over.set()


class JobQueue:
    """A queue of jobs, and the thread that runs them."""

    def __init__(self) -> None:
        self._known: dict[str, PageJob] = {}
        self._waiting: deque[PageJob] = deque()
        self._running: PageJob | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="atbsn-page", daemon=True)
        self._thread.start()

    def add(
        self,
        owner: str,
        kind: str,
        work: Callable[[PageJob], Any],
        picture: str | None = None,
        replace: bool = False,
    ) -> PageJob:
        """Put ``work`` at the end of the queue.

        Args:
            owner: token of the session.
            kind: what it computes.
            work: the computation.
            picture: id of its picture; None: several.
            replace: stop waiting and running jobs of this owner and kind.

        Raises:
            BusyError: too many jobs are waiting.
        """
        job = PageJob(owner, kind, work, picture)
        with self._changed:
            if replace:
                for other in self._of(owner):
                    if other.kind == kind:
                        self._end(other)
            if len(self._waiting) >= MAX_WAITING:
                raise BusyError("Too much is waiting to be computed; try again in a minute.")
            if len(self._of(owner)) >= MAX_PER_SESSION:
                raise BusyError("Several things of yours are waiting to be computed already; let one finish first.")
            self._known[job.id] = job
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def get(self, owner: str, name: str) -> PageJob | None:
        """The job of this session with this id; None if there is none."""
        job = self._known.get(name)
        return job if job is not None and job.owner == owner else None

    def position(self, job: PageJob) -> int:
        """Number of computations before it; 0 if it runs or has ended."""
        with self._changed:
            if job not in self._waiting:
                return 0
            return self._waiting.index(job) + (self._running is not None)

    def stop(self, job: PageJob) -> None:
        """Remove it from the queue, or ask it to end at its next step."""
        with self._changed:
            self._end(job)

    def under_way(self, owner: str) -> list[PageJob]:
        """The waiting and running jobs of a session."""
        with self._changed:
            return self._of(owner)

    def end_all(self, owner: str, picture: str | None = None) -> list[PageJob]:
        """Stop the jobs of a session, or only those of one picture, and wait until they have ended; returns them."""
        with self._changed:
            jobs = [job for job in self._of(owner) if picture is None or job.picture == picture]
            for job in jobs:
                self._end(job)
        for job in jobs:
            job.wait(_MAX_STEP_SECONDS)
        return jobs

    def forget(self, owner: str) -> None:
        """Stop the jobs of a session, wait until they have ended, and forget them."""
        self.end_all(owner)
        with self._changed:
            self._known = {name: job for name, job in self._known.items() if job.owner != owner}

    def close(self) -> None:
        """Stop all jobs and the thread."""
        with self._changed:
            self._closed = True
            for job in [*self._waiting, *([self._running] if self._running else [])]:
                self._end(job)
            self._changed.notify_all()
        self._thread.join(_MAX_STEP_SECONDS)

    def _of(self, owner: str) -> list[PageJob]:
        running = [self._running] if self._running is not None else []
        return [job for job in [*running, *self._waiting] if job.owner == owner]

    def _end(self, job: PageJob) -> None:
        job.ask_to_stop()
        if job in self._waiting:
            self._waiting.remove(job)
            job.cancel()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._running = None
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                self._running = job = self._waiting.popleft()
            job.run()


def _nothing(job: PageJob) -> None:
    """The work of a job that has ended."""


def in_plain_words(error: Exception) -> str:
    """A message about an unexpected error for the visitor. The log gets the whole error."""
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "allocate" in str(error).lower():
        logger.error("page: %s", error)
        return "There is not enough memory for this picture. Close other programs, or try a smaller picture."
    if isinstance(error, OSError):
        logger.error("page: %s", error)
        return f"The temporary folder cannot be used ({error.strerror or error}). Is the disk full?"
    logger.exception("page: a computation failed")
    return f"Something went wrong that should not ({type(error).__name__}). The terminal says more."
