"""The record of a folder of results: which pictures are done, and which failed and why. Killing the process loses none
of it."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from atbsn.engine.inference.about import describe_denoiser, fingerprint
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.pipeline.manifest import MANIFEST_FOLDER, DoneEntry, DoneManifest, DonePictures
from atbsn.engine.inference.pipeline.shards import Shard
from atbsn.engine.provenance import commit, versions
from atbsn.utils import dist
from atbsn.utils.files import cannot_write, write_text

_NAMED = 20
"""Most failures that are named at the end; the file of failures has all. Chosen by hand."""


class Record:
    """``folder/manifest``: one line for each picture that is done, and a file of those that failed.

    Args:
        folder: folder of the results.
        settings: checksum of weights and settings. A picture that was done with others counts as not done.
        shard: the part of the pictures that this process works on. No other process may work on it at the same time.
        resume: leave out the pictures that any process has done; otherwise all are done again.
        by_name: whether shards were assigned by the pictures' names. Then only names of this shard are remembered.

    Raises:
        UserError: another process works on this shard, or the folder cannot be written.
    """

    def __init__(self, folder: Path, settings: str, shard: Shard, resume: bool, by_name: bool = False) -> None:
        self.folder, self.settings = folder, settings
        place = folder / MANIFEST_FOLDER
        self._manifest = DoneManifest(place, shard, resume)
        self._done = DonePictures(place, shard if by_name else Shard()) if resume else None
        self.temporary = self._manifest.temporary
        self.failures = place / f"failures-{shard}.csv"
        self.first_failures: list[str] = []
        self.num_failures = 0
        try:
            self.failures.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(self.failures, error) from error

    def has(self, name: str, facts: tuple[int, int], target: Path) -> bool:
        """Whether this picture is done with these settings, and its clean file has the size that was written.

        Args:
            facts: ``size`` and ``mtime_ns`` of its ``DoneEntry``.
        """
        if self._done is None:
            return False
        try:
            return self._entry(name, facts, target) in self._done
        except OSError:
            return False

    def has_name(self, name: str) -> bool:
        """Whether a picture of this name was done before, so that its clean file is ours. False without ``resume``."""
        return self._done is not None and self._done.has_name(name)

    def add(self, name: str, facts: tuple[int, int], target: Path) -> None:
        """Note a picture whose clean file is complete. Several threads may call this at once."""
        self._manifest.add(self._entry(name, facts, target))

    def fail(self, label: str, reason: str) -> None:
        """Note a picture that could not be done."""
        self.num_failures += 1
        if len(self.first_failures) < _NAMED:
            self.first_failures.append(label)
        try:
            with self.failures.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
                rows = csv.writer(file, lineterminator="\n")
                if not file.tell():
                    rows.writerow(("picture", "reason"))
                rows.writerow((label, reason))
        except OSError as error:
            raise cannot_write(self.failures, error) from error

    def summary(self) -> str:
        """One sentence on the pictures that failed; empty if none did."""
        if not self.num_failures:
            return ""
        more = self.num_failures - len(self.first_failures)
        names = ", ".join(self.first_failures) + (f" and {more} more" if more else "")
        return f"{self.num_failures} pictures could not be done, for reasons in {self.failures}: {names}"

    def _entry(self, name: str, facts: tuple[int, int], target: Path) -> DoneEntry:
        size = target.stat().st_size
        return DoneEntry(name, *facts, target.relative_to(self.folder).as_posix(), size, self.settings)

    def close(self) -> None:
        """Close the record, so that another process may work on this shard."""
        self._manifest.close()


def open_record(
    folder: Path,
    denoiser: Denoiser,
    weights: str | Path | None,
    reading: Mapping[str, Any],
    shard: Shard,
    resume: bool,
    by_name: bool = False,
) -> Record:
    """Open the record of ``folder``, and write the file ``about-<checksum>.yml`` with weights and settings.

    Args:
        weights: the denoiser's weights, as in ``describe_denoiser``.
        reading: the settings for reading files that differ from the usual ones.
        shard, resume, by_name: as in ``Record``.

    Raises:
        UserError: as ``Record``.
    """
    about = describe_denoiser(denoiser, weights)
    if reading:
        about["reading"] = dict(reading)
    settings = fingerprint(about)
    record = Record(folder, settings, shard, resume, by_name)
    if dist.is_main():
        about |= {"commit": commit(), "versions": versions()}
        text = yaml.safe_dump(about, sort_keys=False, width=110)
        write_text(folder / MANIFEST_FOLDER / f"about-{settings}.yml", text)
    return record
