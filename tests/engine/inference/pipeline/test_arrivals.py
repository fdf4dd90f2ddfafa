"""What arrives in a folder: whole, once, in order, and never what was made of it."""

import errno
import os
from collections.abc import Callable, Iterable
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from atbsn.engine.inference.pipeline import arrivals as module
from atbsn.engine.inference.pipeline.arrivals import Arrivals
from atbsn.engine.inference.pipeline.flights import TaskResult
from atbsn.engine.inference.pipeline.mirrored import Mirrored
from atbsn.engine.inference.pipeline.shards import Shard
from atbsn.engine.inference.pipeline.task import Refused, Task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the log tells."""
    lines: list[str] = []
    monkeypatch.setattr(module.logger, "info", lambda text, *values: lines.append(text % values))
    return lines


def watch(
    folder: Path, may_replace: Callable[[str], bool] = lambda name: False, output: str = "out", raw: bool = False
) -> Arrivals:
    return Arrivals(Mirrored([folder], folder.parent / output, Shard(), raw), may_replace)


def put(path: Path, text: str = "pixels", at: int = 10**9) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))
    return path


def names(found: Iterable[Task | Refused]) -> list[str]:
    return [task.name for task in found]


def test_a_file_is_whole_when_two_looks_agree(folder: Path) -> None:
    arriving = watch(folder)
    path = put(folder / "a.jpg", "half")
    assert arriving.look() == []
    put(path, "half and more")
    assert arriving.look() == [], "it has grown"
    put(path, "half and more", at=10**9 + 1)
    assert arriving.look() == [], "it was written to"
    assert names(arriving.look()) == ["a.jpg"]
    assert arriving.look() == arriving.look() == [], "once"
    put(path, "the rest has come", at=10**9 + 2)
    assert arriving.look() == [] and names(arriving.look()) == ["a.jpg"], "again, since it has changed"


def test_what_is_not_there_yet(folder: Path) -> None:
    arriving = watch(folder)
    put(folder / "empty.jpg", "")
    put(folder / "a.jpg.part")
    put(folder / ".b.jpg")
    (folder / "link.jpg").symlink_to("nowhere.jpg")
    assert arriving.look() == arriving.look() == []
    put(folder / "empty.jpg", "filled")
    (folder / "a.jpg.part").rename(folder / "a.jpg")
    assert arriving.look() == [] and names(arriving.look()) == ["a.jpg", "empty.jpg"]
    (folder / "a.jpg").rename(folder / "other name.jpg")
    assert arriving.look() == [] and names(arriving.look()) == ["other name.jpg"]


def test_the_oldest_comes_first(folder: Path) -> None:
    arriving = watch(folder)
    for at, name in ((3, "a.jpg"), (1, "b/c.jpg"), (2, "d.png"), (2, "b.png")):
        put(folder / name, at=at)
    arriving.look()
    assert names(arriving.look()) == ["b/c.jpg", "b.png", "d.png", "a.jpg"]


def test_a_file_that_cannot_be_opened_is_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    arriving, real = watch(folder), Path.open
    put(folder / "a.jpg")

    def refuse(path: Any, *arguments: Any) -> None:
        raise OSError(errno.EACCES, "used by another process")

    monkeypatch.setattr(Path, "open", refuse)
    assert arriving.look() == arriving.look() == arriving.look() == []
    assert said == [f"{folder / 'a.jpg'}: cannot be opened (used by another process); it is waited for"]
    monkeypatch.setattr(Path, "open", real)
    assert names(arriving.look()) == ["a.jpg"]


def test_no_result_is_an_input(folder: Path) -> None:
    """Neither those of this watch, nor of another in a folder inside, nor what ``atbsn denoise`` left beside."""
    put(folder / "clean" / "a.jpg")
    put(folder / "earlier" / "manifest" / "done-1-of-1.jsonl")
    put(folder / "earlier" / "deep" / "a.jpg")
    put(folder / "a_clean.tif")
    put(folder / "a_compare.png")
    put(folder / "a.jpg")
    put(folder / "spring_clean.jpg")  # no result, since there is no spring.*
    arriving = watch(folder, output="in/clean", may_replace=lambda name: True)
    assert arriving.look() == [] and names(arriving.look()) == ["a.jpg", "spring_clean.jpg"]


def test_nothing_of_others_is_written_over(folder: Path) -> None:
    may = set()
    arriving = watch(folder, may_replace=may.__contains__)
    theirs = put(folder.parent / "out" / "a.jpg", "somebody's")
    put(folder / "a.jpg")
    put(folder / "b.jpg")
    arriving.look()
    refused, task = arriving.look()
    assert isinstance(refused, Refused) and refused.path == folder / "a.jpg" and "--overwrite" in refused.reason
    assert task.name == "b.jpg" and arriving.tell(TaskResult(refused, refused.reason))
    assert arriving.look() == [], "it is said once"
    put(folder.parent / "out" / "b.jpg", "ours")
    arriving.tell(TaskResult(task))
    put(folder / "b.jpg", "changed")
    assert arriving.look() == [] and names(arriving.look()) == ["b.jpg"], "what was made of it before"
    theirs.unlink()
    assert names(arriving.look()) == ["a.jpg"]


def test_what_was_there_before_is_left_until_it_changes(folder: Path) -> None:
    put(folder / "a.jpg")
    put(folder / "b.jpg")
    arriving = watch(folder)
    assert arriving.leave() == 2
    put(folder / "b.jpg", "half-copied before")
    put(folder / "c.jpg")
    assert arriving.look() == [] and names(arriving.look()) == ["b.jpg", "c.jpg"]


def test_a_picture_that_is_gone_is_no_failure_and_comes_back(folder: Path) -> None:
    arriving = watch(folder)
    put(folder / "a.jpg")
    arriving.look()
    (task,) = arriving.look()
    (folder / "a.jpg").rename(folder.parent / "a.jpg")
    assert not arriving.tell(TaskResult(task, "cannot be read (No such file or directory)"))
    (folder.parent / "a.jpg").rename(folder / "a.jpg")
    assert arriving.look() == []
    (task,) = arriving.look()
    assert arriving.tell(TaskResult(task, "no picture")) and not arriving.tell(TaskResult(task))
    assert arriving.look() == arriving.look() == [], "a broken one is tried again when it has changed"


def test_the_folder_goes_away_and_comes_back(folder: Path, said: list[str]) -> None:
    arriving = watch(folder)
    put(folder / "a.jpg")
    arriving.look()
    assert names(arriving.look()) == ["a.jpg"]
    folder.rename(folder.parent / "away")
    assert arriving.look() == arriving.look() == []
    (folder.parent / "away").rename(folder)
    put(folder / "b.jpg")
    assert arriving.look() == [] and names(arriving.look()) == ["b.jpg"]
    assert said == [f"{folder}: is gone; it is waited for", f"{folder}: is there again"]


def test_a_large_folder_is_looked_at_less_often(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, slept = count(0.0, 3.0), []  # a look takes three seconds
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(module.time, "sleep", slept.append)
    put(folder / "a.jpg")
    assert [names(batch) for batch in islice(watch(folder).batches(every=2), 1)] == [["a.jpg"]] and slept == [30]
    clock = count(0.0, 0.01)
    put(folder / "b.jpg")
    slept.clear()
    list(islice(watch(folder).batches(every=2), 1))
    assert slept == [2]


def test_raw_files_alone(folder: Path) -> None:
    for name in ("a.NEF", "b.dng", "c.jpg"):
        put(folder / name)
    arriving = watch(folder, raw=True)
    arriving.look()
    assert {task.name: task.target.name for task in arriving.look()} == {"a.NEF": "a.NEF.dng", "b.dng": "b.dng"}
