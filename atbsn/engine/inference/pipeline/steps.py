"""The steps for one picture: read it, denoise it, write it. Each step raises its errors."""

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
"""Size of a file in bytes and time of its last change in nanoseconds; for a part of a file, bytes and checksum of its
samples. They tell versions of a picture apart."""

_LARGE = 2**25
"""Bytes of samples (11 megapixels of 8 bits) from which on freed memory is returned to the system before a picture is
encoded. Chosen by hand: it takes hundredths of a second, and smaller pictures leave little memory behind."""


class Observer:
    """Looks at each picture before and after it is denoised. This base class does nothing."""

    def before(self, task: Task, noisy: Picture) -> Any:
        """Look at the noisy picture, which is overwritten later. Called in any thread; the result goes to ``after``."""
        del task, noisy

    def after(self, task: Task, seen: Any, clean: Picture) -> Any:
        """Look at the clean picture before it is written. Called in any thread. The result goes into ``TaskResult``."""
        del task, clean
        return seen


class Loaded(NamedTuple):
    """A noisy picture that was read.

    Attributes:
        picture: the noisy picture.
        facts: the version of its file.
        seen: what the observer returned for it.
        mask: (H, W), where it is denoised, as ``check_mask`` accepts it; None: everywhere.
    """

    picture: Picture
    facts: FileFacts
    seen: Any
    mask: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of memory until it is written. With a mask, the noisy samples are needed beside the clean ones."""
        samples = self.picture.rgb.nbytes
        return samples if self.mask is None else 2 * samples + self.mask.nbytes


@dataclass(frozen=True)
class Steps:
    """The steps, with what is the same for every picture.

    Attributes:
        denoiser: denoises.
        read: reads a picture file.
        observer: looks at pictures before and after.
        record: notes the pictures that are done; None: no record is kept.
    """

    denoiser: Denoiser
    read: Read
    observer: Observer
    record: Record | None = None

    def check(self, task: Task) -> FileFacts | None:
        """The version of the file, before it is read; None for a part of a file.

        Raises:
            UserError: it cannot be read, or its clean version would overwrite it.
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
        """Whether this version of the picture was done before."""
        return self.record is not None and self.record.has(task.name, facts, task.target)

    def load(self, task: Task, facts: FileFacts | None) -> Loaded | None:
        """Read the picture, and let the observer look at it; None if it is a part of a file that is done already.

        Raises:
            UserError: it cannot be read, the format of the target cannot hold it, or its mask does not fit.
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
        """Start to denoise the picture. The returned function waits for the result, as that of ``begin_clean``.

        It applies the mask and cuts out the window of the task.

        Raises:
            UserError: the output is not finite; the returned function may raise this, too.
        """
        # A data set may return memory that it keeps; the samples of a file belong to us alone.
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
        """Write the clean file, completely or not at all, with the date of the noisy file, and note it in the record.

        Returns:
            What the observer returned.

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
        """Whether the file can be copied, since nothing changes: then a JPEG is not compressed once more."""
        if task.source is None or not self.denoiser.leaves_pictures_alone:
            return False
        whole = task.read is not None or self.read is read_picture  # a reader of another kind may take one page of it
        return whole and task.source.suffix.lower() == task.target.suffix.lower()


def _source(task: Task) -> Path:
    assert task.source is not None, f"{task.name}: nothing to read it from"
    return task.source
