"""Compare candidates on a set of pictures. Rows are written as they are measured, so an interruption loses none."""

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from atbsn.data.base import ImageSet
from atbsn.engine.evaluation.comparison import Candidate, MethodFacts, comparison_table, together, write_comparison
from atbsn.engine.evaluation.evaluator import (
    Column,
    Row,
    columns_of,
    count_pictures,
    evaluate,
    panel_writer,
    titled,
    write_rows,
)
from atbsn.engine.evaluation.paired import as_markdown, as_rows, differences
from atbsn.engine.evaluation.residual import ResidualMeter
from atbsn.engine.evaluation.results import COMPARED_MEANS, summarise, write_results
from atbsn.metrics import Metric
from atbsn.utils import dist
from atbsn.utils.files import cannot_write, write_text
from atbsn.utils.tables import format_csv

PICTURES = "comparison_pictures.csv"
"""Name of the table with one line for each picture and method."""
_SAVED = 60.0
"""Seconds between two versions of the tables of means while pictures are measured. Chosen by hand."""


def compare_on(
    images: ImageSet,
    name: str,
    candidates: Sequence[Candidate],
    facts: MethodFacts,
    metrics: Mapping[str, Metric],
    folder: Path,
    num_panels: int = 0,
    limit: int | None = None,
    meter: ResidualMeter | None = None,
) -> str:
    """Measure all candidates, and the noisy pictures, on every picture of ``images``; returns the table as Markdown.

    It writes to ``folder``: ``comparison_pictures.csv``, a line for each picture and method, as they are measured;
    ``comparison.csv`` and ``comparison.md`` with the means, after an interruption of the pictures that were measured;
    ``comparison_means.csv``, the same for ``atbsn report``; ``comparison_paired.csv``; and panels.

    Args:
        images: the data set.
        name: its name.
        candidates: what is compared.
        facts: result of ``measure_candidates``.
        metrics: metrics by name.
        folder: folder of the results.
        num_panels: number of pictures that are shown as panels.
        limit: number of pictures to measure, spread over the set; None: all.
        meter: remembers the noise estimates of pictures without references (``check_sets``).
    """
    title = f"{name}: {type(images).__name__}, mean of {count_pictures(images, limit)}"
    columns = columns_of(images, metrics)
    done: list[Row] = []
    saved = time.monotonic()

    def write(rows: Sequence[Row], title: str) -> str:
        found = differences(rows, columns)
        if found:
            lines = as_rows(found)
            write_text(folder / "comparison_paired.csv", format_csv(lines[0], lines))
        write_results(folder / COMPARED_MEANS, summarise(rows, columns, name, _about(candidates)))
        table = comparison_table(rows, facts, columns)
        return write_comparison(folder, table, columns, title, candidates, as_markdown(found))

    def write_what_is_done() -> None:
        pictures = len({row["index"] for row in done})
        write(done, f"{title}: only {pictures} of them are done")

    with _PictureFile(folder / PICTURES if dist.is_main() else None, columns) as file:

        def on_rows(rows: Sequence[Row]) -> None:
            nonlocal saved
            done.extend(rows)
            file.append(rows)
            if dist.is_main() and time.monotonic() - saved > _SAVED:
                saved = time.monotonic()
                write_what_is_done()

        try:
            rows = evaluate(
                images, together(candidates), metrics, f"compare on {name}", with_noisy=True, num_panels=num_panels,
                on_panel=panel_writer(folder / "comparison_panels", side=256, columns=4), limit=limit, on_rows=on_rows,
                meter=meter,
            )  # fmt: skip
        except BaseException:  # Ctrl-C, too: measuring what is done took long
            if done and dist.is_main():
                write_what_is_done()
            raise
    write_rows(folder / PICTURES, rows, columns)
    return write(rows, title) if dist.is_main() else ""


def _about(candidates: Sequence[Candidate]) -> dict[str, dict[str, Any]]:
    """Blind spot, weights and arithmetic of each method, by label."""
    return {
        label: {"k": k, "weights": candidate.weights, "kmac": candidate.kmac}
        for candidate in candidates
        for label, k in zip(candidate.labels, candidate.holes or [None] * len(candidate.labels), strict=True)
    }


class _PictureFile:
    """A CSV file whose rows are on disk as soon as they are appended. Without a path it writes nothing."""

    def __init__(self, path: Path | None, columns: Mapping[str, Column]) -> None:
        self._path, self._columns = path, columns
        self._file: TextIO | None = None
        self._writer: csv.DictWriter[str] | None = None

    def __enter__(self) -> "_PictureFile":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, rows: Sequence[Row]) -> None:
        if self._path is None:
            return
        lines = titled(rows, self._columns)
        try:
            if self._file is None or self._writer is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("w", newline="", encoding="utf-8")
                self._writer = csv.DictWriter(self._file, tuple(lines[0]), lineterminator="\n")
                self._writer.writeheader()
            self._writer.writerows(lines)
            self._file.flush()
        except OSError as error:
            raise cannot_write(self._path, error) from error
