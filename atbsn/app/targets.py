"""Which pictures to clean, and where each clean one goes. No original is ever a target."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from atbsn.pictures import formats
from atbsn.pictures.find import Found, find_pictures
from atbsn.utils.errors import UserError

MADE = ("_clean", "_compare")
"""Ends of the names that we give; in a folder, such pictures beside their originals are results, not inputs."""


class Job(NamedTuple):
    """A picture, and the file that its clean version is written to."""

    source: Path
    target: Path


class Plan(NamedTuple):
    """What is to be done.

    Attributes:
        jobs: in order.
        found: as ``find_pictures``, without what is left out here.
        failed: how many of the files that were asked for by name cannot be used.
    """

    jobs: list[Job]
    found: Found
    failed: int


def plan(inputs: Sequence[str], output: str | None, overwrite: bool) -> Plan:
    """Find the pictures in ``inputs``, files and folders, and name their clean ones.

    Without ``output`` a clean picture lies beside its original, as ``<name>_clean``; in a folder it has its place below
    ``output``. Of one input file ``output`` may be the file itself.

    Raises:
        UserError: ``output`` is a file, though there are several pictures, or the original itself.
    """
    found = find_pictures(inputs)
    named = {Path(name).resolve() for name in inputs}
    as_file = _output_file(inputs, output)
    jobs: list[Job] = []
    kept, skipped = Found([], [], []), list(found.skipped)
    taken: dict[Path, Path] = {}
    originals = {path.resolve() for path in found.paths if path.resolve() in named or not _is_ours(path)}
    for source, name in zip(found.paths, found.names, strict=True):
        suffix = source.suffix if source.suffix.lower() in formats.WRITTEN else ".tif"
        below = name.with_name(f"{name.stem}_clean{suffix}")
        target = as_file or (source.with_name(below.name) if output is None else Path(output) / below)
        reason = None
        if source.resolve() not in named and _is_ours(source):
            reason = "made by atbsn"
        elif target.resolve() == source.resolve():
            raise UserError(f"{source}: would be overwritten; give another --output")
        elif target.resolve() in originals:
            reason = f"{target}, where its clean picture goes, is one of the pictures; give another --output"
        elif target in taken:
            reason = f"{target} is the clean picture of {taken[target]}"
        elif target.exists() and not overwrite:
            reason = "done already; --overwrite does it again" if target.is_file() else f"{target} is a folder"
        if reason is None:
            taken[target] = source
            jobs.append(Job(source, target))
            kept.paths.append(source)
            kept.names.append(name)
        else:
            skipped.append((source, reason))
    failed = sum(path.resolve() in named for path, _ in skipped)
    return Plan(jobs, Found(kept.paths, kept.names, skipped), failed)


def _output_file(inputs: Sequence[str], output: str | None) -> Path | None:
    """``output`` where it names a file, not a folder."""
    if output is None or Path(output).is_dir() or Path(output).suffix.lower() not in formats.SUFFIXES:
        return None
    if len(inputs) > 1 or Path(inputs[0]).is_dir():
        raise UserError(f"--output {output}: a single file, but there may be several pictures; name a folder")
    if Path(output).suffix.lower() not in formats.WRITTEN:
        raise UserError(f"--output {output}: camera RAW is not written; name a .tif file")
    return Path(output)


def _is_ours(source: Path) -> bool:
    """Whether a picture lies beside one that it was made from."""
    for end in MADE:
        if source.stem.endswith(end):
            stem = source.stem.removesuffix(end)
            return any(source.with_name(stem + suffix).exists() for suffix in _spellings(source))
    return False


def _spellings(source: Path) -> set[str]:
    """Suffixes that the original of ``source`` may have."""
    lower = {source.suffix, *formats.SUFFIXES}
    return lower | {suffix.upper() for suffix in lower}
