"""Denoising folders of any number of pictures, in memory that does not grow with it."""

import csv
import errno
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from atbsn.engine.inference.bulk.manifest import Done, Entry, Manifest
from atbsn.engine.inference.bulk.progress import Progress
from atbsn.engine.inference.bulk.shards import Shard
from atbsn.pictures import Picture, formats, read_picture, write_picture
from atbsn.pictures.find import Item, walk_pictures
from atbsn.utils.errors import UserError
from atbsn.utils.files import cannot_write
from atbsn.utils.log import logger
from atbsn.utils.prefetch import prefetch

Clean = Callable[[Picture, str], Picture]
"""A noisy picture and its name to a clean one. What is drawn at random depends on the name alone."""

_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Refusals to write one picture that hold for all the others."""


class Job(NamedTuple):
    """A picture, what its file is like, and where its clean version goes, below the output folder."""

    source: Path
    name: Path
    target: Path
    size: int
    mtime_ns: int


_NAMED = 20
"""Failures that are named at the end; the file of failures has all."""


class Outcome(NamedTuple):
    """How many pictures were done now, were done before and failed, of how many in all shards; what was passed over."""

    done: int
    skipped: int
    failed: int
    met: int
    passed_over: Counter[str]


class BulkRun:
    """One shard of the pictures below ``roots``, to be denoised into ``folder``.

    Every clean file keeps its path below its root and its name; camera RAW becomes ``<name>.tif``. It appears complete,
    and is noted in ``folder/manifest`` once it is there: a process that is killed loses what it was about, no more.

    Args:
        roots: folders, and files.
        clean: as ``Clean``.
        settings: stands for weights and settings; a picture done with others is not done.
        shard: the part to do.
        resume: leave out what the manifest has with this file's size and time and these settings, if the clean file is
            still as it was written.

    Raises:
        UserError: nothing at one of the roots, pictures would be written over, or ``folder`` cannot be written.
    """

    def __init__(
        self, roots: Sequence[Path], clean: Clean, folder: Path, settings: str, shard: Shard, resume: bool
    ) -> None:
        self._roots = list({root.resolve(): root for root in roots}.values())
        for root in self._roots:
            if not root.exists():
                raise UserError(f"{root}: no such file or folder; check the path")
            if (root if root.is_dir() else root.parent).resolve() == folder.resolve():
                raise UserError(f"{root}: would be overwritten by its denoised picture; give another --output")
        self._clean, self._folder, self._settings, self._shard = clean, folder, settings, shard
        self._met, self._passed_over = 0, Counter[str]()
        self._manifest = Manifest(folder / "manifest", shard, resume)
        self._done = Done(folder / "manifest", shard) if resume else None
        self.failures = folder / "manifest" / f"failures-{shard}.csv"
        self.failed_first: list[str] = []

    def run(self, description: str) -> Outcome:
        """Do all that is left to do; a picture that fails is reported, and the others are done.

        Raises:
            UserError: the disk is full; or there is no picture below the roots.
        """
        try:
            self.failures.unlink(missing_ok=True)
            progress = Progress(description, partial(self._items, count=False))
            try:
                with ThreadPoolExecutor(max_workers=2) as writers:
                    self._work(progress, writers)
            finally:
                progress.close()
        finally:
            self._manifest.close()
        if not self._met:
            raise UserError(f"{self._roots[0]}: no picture in this folder or below; it needs {formats.KINDS} files")
        return Outcome(progress.done, progress.skipped, progress.failed, self._met, self._passed_over)

    def _work(self, progress: Progress, writers: ThreadPoolExecutor) -> None:
        waiting: list[tuple[Item | Job, Future[str | None]]] = []

        def finish(keep: int) -> None:
            while len(waiting) > keep:
                job, future = waiting.pop(0)
                self._note(job, future.result(), progress)

        for job, found in prefetch(self._read, self._jobs(progress)):
            made = self._denoise(job, found) if isinstance(job, Job) and isinstance(found, Picture) else found
            if isinstance(job, Job) and isinstance(made, Picture):
                waiting.append((job, writers.submit(self._write, job, made)))
            else:
                self._note(job, str(made), progress)
            finish(keep=4)
        finish(keep=0)

    def _items(self, count: bool = True) -> Iterator[tuple[int, Item]]:
        """The pictures of this shard, and folders that cannot be listed, with the number of their root."""
        for number, root in enumerate(self._roots):
            for item in walk_pictures(root, in_order=False, leave_out=self._folder):
                picture = item.reason is None or formats.is_missing(item.path.suffix)
                if count:
                    self._met += picture
                    self._passed_over[item.reason or ""] += not picture and item.reason != "hidden"
                unlisted = item.reason is not None and item.reason.startswith("cannot be listed")
                if (picture or unlisted) and self._shard.holds(item.name.as_posix()):
                    yield number, item

    def _jobs(self, progress: Progress) -> Iterator[Job | tuple[Item, str]]:
        """What is to be done, or cannot be, with the reason."""
        for number, item in self._items():
            path, name = item.path, item.name
            if item.reason is not None:
                yield item, item.reason
                continue
            first = next((root for root in self._roots[:number] if _below(root, name)), None)
            if first is not None:
                yield item, f"also in {first}: the name of two pictures, of which one would be lost; denoise them apart"
                continue
            target = name if name.suffix.lower() in formats.WRITTEN else name.with_name(f"{name.name}.tif")
            try:
                facts = path.stat()
            except OSError as error:
                yield item, f"cannot be read ({error.strerror}); check the file"
                continue
            job = Job(path, name, target, facts.st_size, facts.st_mtime_ns)
            try:
                there = (self._folder / target).stat()
            except OSError:
                yield job
                continue
            if os.path.samestat(facts, there):
                yield item, "would be overwritten by its denoised picture; give another --output"
            elif self._done is not None and self._entry(job, there.st_size) in self._done:
                progress.skip()
            else:
                yield job

    def _read(self, job: Job | tuple[Item, str]) -> tuple[Item | Job, Picture | str]:
        if not isinstance(job, Job):
            return job
        return job, self._tried(lambda: read_picture(job.source))

    def _denoise(self, job: Job, noisy: Picture) -> Picture | str:
        return self._tried(lambda: self._clean(noisy, job.name.with_suffix("").as_posix()))

    def _write(self, job: Job, picture: Picture) -> str | None:
        """Write a picture aside, whole, put it in its place, and note it; what refused it, if anything."""
        temporary = self._manifest.temporary / f"{time.monotonic_ns()}-{id(picture)}{job.target.suffix}"
        target = self._folder / job.target

        def write() -> Picture:
            write_picture(temporary, picture)
            try:
                size = temporary.stat().st_size
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(target)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                raise cannot_write(target, error) from error
            self._manifest.add(self._entry(job, size))
            return picture

        refused = self._tried(write)
        return refused.replace(str(temporary), str(target)) if isinstance(refused, str) else None

    def _entry(self, job: Job, size: int) -> Entry:
        return Entry(job.name.as_posix(), job.size, job.mtime_ns, job.target.as_posix(), size, self._settings)

    def _tried(self, action: Callable[[], Picture]) -> Picture | str:
        """What ``action`` gives, or why it gives nothing. One picture never ends the others, but a full disk does."""
        try:
            return action()
        except UserError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _HOPELESS:
                raise
            return str(error)
        except (MemoryError, torch.OutOfMemoryError) as error:
            return f"out of memory ({error}); set test.tile lower"
        except Exception as error:
            if "can't allocate memory" in str(error):
                return "out of memory; set test.tile lower"
            logger.exception("a defect, please report it:")
            return f"a defect: {type(error).__name__}: {error}"

    def _note(self, job: Item | Job, reason: str | None, progress: Progress) -> None:
        if reason is not None:
            path = job.source if isinstance(job, Job) else job.path
            reason = reason.removeprefix(f"{path}: ")
            logger.error("%s: %s", path, reason)
            if len(self.failed_first) < _NAMED:
                self.failed_first.append(str(path))
            try:
                with self.failures.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
                    rows = csv.writer(file, lineterminator="\n")
                    if not file.tell():
                        rows.writerow(("picture", "reason"))
                    rows.writerow((str(path), reason))
            except OSError as error:
                raise cannot_write(self.failures, error) from error
        progress.step(failed=reason is not None)


def _below(root: Path, name: Path) -> bool:
    """Whether ``root`` has a picture of this name."""
    return (root / name).is_file() if root.is_dir() else root.name == str(name)
