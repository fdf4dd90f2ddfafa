"""Pictures that arrive in a folder, from a camera, a scanner or another machine, each once it is whole."""

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
"""A look of so many seconds is followed by ten times as many of rest, so that a folder of any size costs at most a
tenth of a core."""


class Arrivals:
    """The pictures below a folder that are new or have changed, in the order of their dates, each once it is whole.

    Whole is a file that had the same size and date at two looks, is not empty and can be opened. One whose copying
    stopped for longer than that is given too soon, and again when the rest has come. Polling, since what a camera's or
    another machine's file system does is not told to this one.

    Args:
        found: what there is below a single folder.
        may_replace: tells by a picture's name whether a clean file that is there may be written over.
    """

    def __init__(self, found: Mirrored, may_replace: Callable[[str], bool]) -> None:
        assert len(found.roots) == 1, "one folder"
        self._found, self._may_replace = found, may_replace
        self._given: dict[str, FileFacts] = {}
        """Which version of each picture was given last, by its name; also of those that are no more there: a folder
        that is away for a while, such as that of another machine, comes back with the same."""
        self._pending: dict[str, FileFacts] = {}
        """Which version of each other one was there at the last look."""
        self._ours: set[str] = set()
        """The pictures that were done, by their names."""
        self._refused: set[Refused] = set()
        self._locked: set[str] = set()
        self._is_away = False

    def leave(self) -> int:
        """Leave alone, unless it changes, what is there now; how many pictures that are."""
        for task in self._found:
            if isinstance(task, Task) and (facts := _facts(task)) is not None:
                self._given[task.name] = facts
        return len(self._given)

    def look(self) -> list[Task | Refused]:
        """What has become whole since the last look, oldest first; and, once each, what cannot be done."""
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
        """``look`` for ever, ``every`` seconds after the last batch is done, where there is something."""
        while True:
            start = time.monotonic()
            batch = self.look()
            spent = time.monotonic() - start
            if batch:
                yield batch
            time.sleep(max(every, _REST * spent))

    def tell(self, result: TaskResult) -> bool:
        """Learn what became of a picture; whether that is a failure, as it is none that it is gone again."""
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
        """Whether it cannot be opened: it is not ours to read, or, on Windows, still being written."""
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
    """Size and date; None for a file that is gone meanwhile, or still empty."""
    try:
        facts = _source(task).stat()
    except OSError:
        return None
    return (facts.st_size, facts.st_mtime_ns) if facts.st_size else None
