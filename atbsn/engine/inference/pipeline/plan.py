"""Planners: which pictures to denoise, and the file that each clean picture goes to. No original is ever a target."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from atbsn.data.base import ImageSet
from atbsn.engine.inference.pipeline.masks import Masks
from atbsn.engine.inference.pipeline.task import Task
from atbsn.pictures import Found, find_pictures, formats
from atbsn.pictures.find import is_file_name
from atbsn.pictures.targets import RAW_TARGET
from atbsn.utils.errors import UserError

MADE = ("_clean", "_compare")
"""Suffixes of the names that we give. Such a picture beside its original is a result, not an input."""
_DONE = "done already; --overwrite does it again"
ORIGINAL = "which is one of the pictures; give another --output"
NO_RAW = "no camera RAW; it is denoised without --raw"
"""Reasons why a picture is left out, in messages."""


def output_file(inputs: Sequence[str | Path], output: str | None, raw: bool = False) -> Path | None:
    """``--output`` if it names the file of a single picture; None if it names a folder.

    Args:
        raw: whether the file has to be a DNG.

    Raises:
        UserError: it names a file although there may be several pictures, or a format that is not written.
    """
    if output is None or output.endswith(("/", os.sep)) or Path(output).is_dir():
        return None
    path = Path(output)
    suffix = path.suffix.lower()
    single = len(inputs) == 1 and not Path(inputs[0]).is_dir()
    if suffix not in formats.SUFFIXES and not (is_file_name(path) or (single and suffix[1:].isalpha())):
        return None
    if raw and suffix != RAW_TARGET:
        raise UserError(f"--output {output}: raw data are written as DNG; name a {RAW_TARGET} file")
    if not raw and suffix not in formats.WRITTEN:
        kind = "camera RAW" if suffix in formats.RAW else suffix[1:].upper()
        folder = "" if suffix in formats.RAW else f", or {output}/ if it is a folder"
        raise UserError(f"--output {output}: {kind} is not written; name a .tif, .png or .jpg file{folder}")
    if not single:
        raise UserError(f"--output {output}: a single file, but there may be several pictures; name a folder")
    return path


def single(source: Path, target: Path) -> Task:
    """The task for one picture and the file that the user named.

    Raises:
        UserError: the target is the original.
    """
    if target.resolve() == source.resolve():
        raise UserError(f"{source}: would be overwritten by its denoised picture; give another --output")
    return Task(source.name, target, source)


class FolderPlan(NamedTuple):
    """The tasks of ``atbsn denoise``.

    Attributes:
        tasks: the tasks, in order.
        found: result of ``find_pictures``; pictures that are left out are moved to ``skipped``.
        done: number of pictures that have a clean file already.
        refused: number of pictures that cannot be done although the user asked for them.
    """

    tasks: list[Task]
    found: Found
    done: int
    refused: int


def beside(
    inputs: Sequence[str], output: str | None, overwrite: bool, raw: bool = False, masks: Masks | None = None
) -> FolderPlan:
    """Find the pictures in ``inputs``, files and folders, and name the clean file of each.

    Without ``output``, the clean file is beside the original and called ``<name>_clean``. If ``output`` is a folder, it
    has its path below that folder. For a single picture, ``output`` may be a file.

    Args:
        raw: take camera raw files only, each with a DNG as target.
        masks: the masks of the pictures. They are not denoised themselves.

    Raises:
        UserError: as ``output_file``, or ``output`` is the original itself.
    """
    found = find_pictures(inputs)
    named = {Path(name).resolve() for name in inputs}
    as_file = output_file(inputs, output, raw)
    tasks: list[Task] = []
    kept, skipped, done = Found([], [], []), list(found.skipped), 0
    refused = sum(path.resolve() in named or is_picture_or_unlisted(path, reason) for path, reason in skipped)
    taken: dict[Path, Path] = {}
    places = [path.resolve() for path in found.paths]
    originals = {place for path, place in zip(found.paths, places, strict=True) if place in named or not is_ours(path)}
    for source, place, name in zip(found.paths, places, found.names, strict=True):
        suffix = RAW_TARGET if raw else formats.written_suffix(source)
        below = name.with_name(f"{name.stem}_clean{suffix}")
        target = as_file or (source.with_name(below.name) if output is None else Path(output) / below)
        mask, reason, to = None, None, target.resolve()
        if place not in named and is_ours(source):
            reason = "made by atbsn"
        elif masks is not None and source in masks:
            reason = "a mask"
        elif raw and source.suffix.lower() not in formats.RAW:
            reason = NO_RAW
            refused += place in named
        elif to == place:
            raise UserError(f"{source}: would be overwritten; give another --output")
        elif to in originals:
            reason = f"its clean picture would go to {target}, {ORIGINAL}"
            refused += 1
        elif target in taken:
            reason = f"{target} is the clean picture of {taken[target]}"
            refused += 1
        elif target.is_dir():
            reason = f"{target} is a folder"
            refused += 1
        elif target.exists() and not overwrite:
            reason = _DONE
            done += 1
        elif masks is not None:
            try:
                mask = masks.of(name)
            except UserError as error:
                reason = str(error)
                refused += 1
        if reason is None:
            taken[target] = source
            tasks.append(Task(name.as_posix(), target, source, mask=mask))
            kept.paths.append(source)
            kept.names.append(name)
        else:
            skipped.append((source, reason))
    return FolderPlan(tasks, Found(kept.paths, kept.names, skipped), done, refused)


def of_set(images: ImageSet, folder: Path) -> list[Task]:
    """The tasks for all pictures of a data set. Each clean file is named after the picture's key in the set.

    Raises:
        UserError: a clean file would overwrite a noisy one or another clean one.
    """
    sources = [images.source(index) for index in range(len(images))]
    originals = {source.resolve(): source for source in sources if source is not None}
    tasks: list[Task] = []
    taken: dict[Path, Path | None] = {}
    for index, source in enumerate(sources):
        target = folder / _name_in_set(images.key(index), source, images.suffix(index))
        place = target.resolve()
        if place in originals:
            by = "its denoised picture" if originals[place] == source else f"the denoised picture of {source}"
            raise UserError(f"{originals[place]}: would be overwritten by {by}; give another --output")
        if place in taken:
            raise UserError(f"{target}: would be the denoised picture of {taken[place]} and of {source}; do them apart")
        taken[place] = source
        tasks.append(Task(images.key(index), target, source, partial(images.read, index), images.window(index)))
    return tasks


def mirrored_name(name: Path, raw: bool = False) -> Path:
    """The name of a clean file in a folder of results: ``a.NEF`` becomes ``a.NEF.tif``, with ``raw`` ``a.NEF.dng``."""
    if raw:
        return name if name.suffix.lower() == RAW_TARGET else name.with_name(f"{name.name}{RAW_TARGET}")
    return name if name.suffix.lower() in formats.WRITTEN else name.with_name(f"{name.name}.tif")


def _name_in_set(key: str, source: Path | None, suffix: str) -> str:
    """The name of the clean file: the key and ``suffix``.

    A key that is a file name already (another file has the same stem) stays if it has that suffix.
    """
    if source is not None and Path(key).name == source.name and source.suffix == suffix:
        return key
    return f"{key}{suffix}"


def is_picture_or_unlisted(path: Path, reason: str) -> bool:
    """Whether a file that is not used is a picture whose library is missing, or a folder that cannot be listed."""
    return formats.is_missing(path.suffix) or reason.startswith("cannot be listed")


def is_ours(source: Path) -> bool:
    """Whether a picture has a name that we give, and its original is beside it."""
    for end in MADE:
        if source.stem.endswith(end):
            stem = source.stem.removesuffix(end)
            return any(source.with_name(stem + suffix).exists() for suffix in _spellings(source))
    return False


def _spellings(source: Path) -> set[str]:
    """The suffixes, in small and large letters, that the original of ``source`` may have."""
    lower = {source.suffix, *formats.SUFFIXES}
    return lower | {suffix.upper() for suffix in lower}
