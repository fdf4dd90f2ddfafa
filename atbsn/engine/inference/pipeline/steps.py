"""What is done to one picture: read it, denoise it, write it. Every step raises what goes wrong."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.pipeline.clean import begin_clean, copy_file, keep_date
from atbsn.engine.inference.pipeline.memory import give_back
from atbsn.engine.inference.pipeline.record import Record
from atbsn.engine.inference.pipeline.task import EVERYTHING, Task
from atbsn.engine.inference.samples import OnProgress
from atbsn.pictures import (
    Picture,
    check_mask,
    check_target,
    keep_where_black,
    read_mask,
    read_picture,
    write_picture,
)
from atbsn.utils.errors import UserError

Read = Callable[[Path], Picture]
"""Reads a picture file."""

FileFacts = tuple[int, int]
"""Bytes of a file and when it was last changed, in nanoseconds; of a part of one, bytes and checksum of its samples."""

_LARGE = 2**25
"""Bytes of samples, those of 11 megapixels and 8 bits, from which on freed memory is given back before they are coded:
that takes hundredths of a second, and smaller pictures leave little of it."""


class Observer:
    """Looks at each picture before and after it is denoised. By itself it does nothing; override its methods."""

    def before(self, task: Task, noisy: Picture) -> Any:
        """Look at the noisy picture, which is overwritten later. Called in any thread. The result goes to ``after``."""
        del task, noisy

    def after(self, task: Task, seen: Any, clean: Picture) -> Any:
        """Look at the clean picture before it is written. Called in any thread. The result goes into ``TaskResult``."""
        del task, clean
        return seen


class Loaded(NamedTuple):
    """A noisy picture, what was seen of it, and which version of its file it is.

    Attributes:
        mask: (H, W), where it is denoised, as ``check_mask`` takes it; None: everywhere.
    """

    picture: Picture
    facts: FileFacts
    seen: Any
    mask: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of memory until it is written: under a mask the noisy samples are needed beside the clean ones."""
        samples = self.picture.rgb.nbytes
        return samples if self.mask is None else 2 * samples + self.mask.nbytes


@dataclass(frozen=True)
class Steps:
    """The steps, with all that is the same for every picture.

    Attributes:
        read: reads a picture file.
        record: what is done, and where it is noted.
    """

    denoiser: Denoiser
    read: Read
    observer: Observer
    record: Record | None = None

    def check(self, task: Task) -> FileFacts | None:
        """Look at the file before it is read; None for a part of one.

        Raises:
            UserError: it cannot be read, or its clean version would be written over it.
        """
        if task.source is None:
            return None
        try:
            facts = task.source.stat()
        except OSError as error:
            raise UserError(f"{task.label}: cannot be read ({error.strerror}); check the file") from None
        try:
            there = task.target.stat()
        except OSError:
            there = None
        if there is not None and os.path.samestat(facts, there):
            raise UserError(f"{task.label}: would be overwritten by its denoised picture; give another --output")
        return facts.st_size, facts.st_mtime_ns

    def is_done(self, task: Task, facts: FileFacts) -> bool:
        """Whether this version of it was done before."""
        return self.record is not None and self.record.has(task.name, facts, task.target)

    def load(self, task: Task, facts: FileFacts | None) -> Loaded | None:
        """Read it and look at it; None if it is a part of a file that is done already.

        Raises:
            UserError: it cannot be read, the target cannot hold it, or its mask is none for it.
        """
        picture = self.read(_source(task)) if task.read is None else task.read()
        if facts is None:
            facts = picture.rgb.nbytes, crc32(np.ascontiguousarray(picture.rgb).data)
            if self.is_done(task, facts):
                return None
        check_target(task.target, picture)
        mask = None
        if task.mask is not None:
            mask = read_mask(task.mask)
            check_mask(mask, picture.rgb.shape[:2], str(task.mask), task.label)
        return Loaded(picture, facts, self.observer.before(task, picture), mask)

    def clean(self, task: Task, loaded: Loaded, on_progress: OnProgress | None) -> Callable[[], Picture]:
        """Denoise it, and keep of it what is wanted: the clean picture when it is called, as ``begin_clean``.

        Raises:
            UserError: the output is not finite, here or there.
        """
        # What a data set gives may be its own memory; a file's samples are nobody else's.
        noisy, mask = loaded.picture, loaded.mask
        in_place = task.read is None and mask is None
        begun = begin_clean(self.denoiser, noisy, task.label, on_progress, in_place)

        def wanted() -> Picture:
            clean = begun()
            if mask is not None and clean is not noisy:
                keep_where_black(noisy.rgb, clean.rgb, mask)
            return clean if task.window == EVERYTHING else replace(clean, rgb=clean.rgb[task.window])

        return wanted

    def write(self, task: Task, loaded: Loaded, clean: Picture) -> Any:
        """Write it, whole or not at all, with the date of the noisy file, and note it; what the observer gives.

        Raises:
            UserError: it cannot be written.
        """
        seen = self.observer.after(task, loaded.seen, clean)
        aside = None if self.record is None else self.record.temporary
        if clean.rgb.nbytes >= _LARGE:
            give_back()
        if self._is_file_itself(task):
            copy_file(_source(task), task.target, aside)
        else:
            write_picture(task.target, clean, aside=aside)
        if task.source is not None:
            keep_date(task.source, task.target)
        if self.record is not None:
            self.record.add(task.name, loaded.facts, task.target)
        return seen

    def _is_file_itself(self, task: Task) -> bool:
        """Whether nothing is taken off and the format stays: then a JPEG is not compressed once more."""
        if task.source is None or not self.denoiser.leaves_pictures_alone:
            return False
        whole = task.read is not None or self.read is read_picture  # a reader of another kind may take one page of it
        return whole and task.source.suffix.lower() == task.target.suffix.lower()


def _source(task: Task) -> Path:
    assert task.source is not None, f"{task.name}: nothing to read it from"
    return task.source
