"""Pictures that arrive in a folder, from a camera, a scanner or another machine. Each is taken once it is complete."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from atbsn.engine.inference.pipeline.flights import TaskResult
from atbsn.engine.inference.pipeline.mirrored import Mirrored
from atbsn.engine.inference.pipeline.plan import is_ours
from atbsn.engine.inference.pipeline.steps import FileFacts
from atbsn.engine.inference.pipeline.task import Refused, Task
from atbsn.utils.log import logger

_REST = 10
"""Ratio of the pause after a look at the folder to the time that the look took. So a folder of any size takes at most a
tenth of a core. Chosen by hand."""


class Arrivals:
    """The pictures below a folder that are new or have changed, in the order of their dates, once they are complete.

    A file is complete if two looks found the same size and date, it is not empty, and it can be opened. A file whose
    copying pauses for longer than that is given too early, and again when it has grown. The folder is polled, because
    the system reports no changes on the file system of a camera or of another machine.

    Args:
        found: the pictures below a single folder.
        may_replace: tells by a picture's name whether an existing clean file may be overwritten.
    """

    def __init__(self, found: Mirrored, may_replace: Callable[[str], bool]) -> None:
        assert len(found.roots) == 1, "one folder"
        self._found, self._may_replace = found, may_replace
        self._given: dict[str, FileFacts] = {}
        """The version of each picture that was given last, by name. Pictures that are gone stay in it: a folder of
        another machine may be away for a while and come back unchanged."""
        self._pending: dict[str, FileFacts] = {}
        """The version of each picture that was seen at the last look and not given yet, by name."""
        self._ours: set[str] = set()
        """Names of the pictures that were done."""
        self._refused: set[Refused] = set()
        self._locked: set[str] = set()
        self._is_away = False

    def leave(self) -> int:
        """Leave out the pictures that are there now, unless they change later; returns their number."""
        for task in self._found:
            if isinstance(task, Task) and (facts := _facts(task)) is not None:
                self._given[task.name] = facts
        return len(self._given)

    def look(self) -> list[Task | Refused]:
        """The pictures that are complete since the last look, oldest first. What cannot be done is listed once, too."""
        root = self._found.roots[0]
        if root.is_dir() == self._is_away:
            self._is_away = not self._is_away
            logger.info("%s: %s", root, "is gone; it is waited for" if self._is_away else "is there again")
        ready: list[tuple[int, Task]] = []
        refused, pending = list[Refused](), dict[str, FileFacts]()
        for task in () if self._is_away else self._found:
            if isinstance(task, Refused):
                refused.append(task)
                continue
            facts = _facts(task)
            if facts is None or self._given.get(task.name) == facts or is_ours(_source(task)):
                continue
            if self._pending.get(task.name) != facts or self._is_locked(task):
                pending[task.name] = facts
            elif task.target.exists() and task.name not in self._ours and not self._may_replace(task.name):
                pending[task.name] = facts
                reason = (
                    f"{task.target} is there and was not made of it; take it away, or replace such with --overwrite"
                )
                refused.append(Refused(_source(task), reason))
            else:
                self._given[task.name] = facts
                ready.append((facts[1], task))
        self._pending = pending
        told = [each for each in refused if each not in self._refused]
        self._refused.update(told)
        return [*told, *(task for _, task in sorted(ready, key=lambda one: (one[0], one[1].name)))]

    def batches(self, every: float) -> Iterator[list[Task | Refused]]:
        """Look for ever and yield what was found, if anything. The next look is ``every`` seconds later."""
        while True:
            start = time.monotonic()
            batch = self.look()
            spent = time.monotonic() - start
            if batch:
                yield batch
            time.sleep(max(every, _REST * spent))

    def tell(self, result: TaskResult) -> bool:
        """Note the result of a picture.

        Returns:
            Whether it is a failure. A picture that was removed before it was read is none.
        """
        task = result.task
        if isinstance(task, Refused):
            return True
        if result.reason is None:
            self._ours.add(task.name)
        elif not _source(task).exists():
            self._given.pop(task.name, None)
            return False
        return result.reason is not None

    def _is_locked(self, task: Task) -> bool:
        """Whether the file cannot be opened: it is not readable or, on Windows, another program is writing it."""
        try:
            with _source(task).open("rb"):
                return False
        except OSError as error:
            if task.name not in self._locked:
                self._locked.add(task.name)
                logger.info("%s: cannot be opened (%s); it is waited for", task.label, error.strerror)
            return True


def _source(task: Task) -> Path:
    assert task.source is not None, "files of a folder"
    return task.source


def _facts(task: Task) -> FileFacts | None:
    """Size and date of the file; None if it is gone or still empty."""
    try:
        facts = _source(task).stat()
    except OSError:
        return None
    return (facts.st_size, facts.st_mtime_ns) if facts.st_size else None
