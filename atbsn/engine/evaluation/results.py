"""Tables of results, in one format: one number a line, with everything that has to be known about it.

Trainings (``metrics.csv``), ``atbsn valid`` (``means.csv``) and ``atbsn compare`` (``comparison_means.csv``) write
them, and ``atbsn report`` reads them.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from atbsn.engine.evaluation.evaluator import Column, Row, means
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_text
from atbsn.utils.tables import format_csv
from atbsn.utils.types import Hole

MEANS = "means.csv"
"""Name of the table of ``atbsn valid``."""
COMPARED_MEANS = "comparison_means.csv"
"""Name of the table of ``atbsn compare``."""


@dataclass(frozen=True)
class Result:
    """One number. ``None`` is written as an empty cell.

    Attributes:
        dataset: name of the set in the options.
        method: ``denoised``, ``noisy``, ``k=3``, a label of ``atbsn compare``, or ``net`` or ``ema`` of a training.
        metric: name of the metric in the options.
        value: mean over pictures.
        protocol: how the metric is computed, in words.
        higher_is_better: whether higher or lower is better; None: neither.
        digits: digits after the decimal point in tables.
        iteration: iteration of a training's own validation.
        k: blind spot, or ``mean`` of a family.
        pictures: number of pictures that it is a mean of.
        weights: the weight file.
        kmac: thousands of multiply-adds a pixel.
    """

    dataset: str
    method: str
    metric: str
    value: float
    protocol: str
    higher_is_better: bool | None = True
    digits: int = 4
    iteration: int | None = None
    k: Hole | None = None
    pictures: int | None = None
    weights: str | None = None
    kmac: float | None = None


COLUMNS = tuple(field.name for field in fields(Result))
"""Columns of a table."""
_BEFORE = {"iteration", "dataset", "weights", "metric", "value", "protocol"}
"""Columns of ``metrics.csv`` of trainings with early development versions. Their ``weights`` is ``method`` today."""


def summarise(
    rows: Iterable[Row], columns: Mapping[str, Column], dataset: str, about: Mapping[str, Mapping[str, Any]]
) -> list[Result]:
    """The means of ``rows``, by method and metric.

    Args:
        rows: rows of ``evaluate``.
        columns: metrics by name.
        dataset: name of the set.
        about: ``k``, ``weights`` and ``kmac`` of methods that have them, by label.
    """
    rows = list(rows)
    return [
        replace(
            result(dataset, method, name, value, columns[name]),
            pictures=sum(row["method"] == method for row in rows),
            **about.get(method, {}),
        )
        for method, values in means(rows, columns).items()
        for name, value in values.items()
    ]


def result(dataset: str, method: str, name: str, value: float, column: Column) -> Result:
    """The result ``value`` of the metric ``column``, which is called ``name``."""
    return Result(dataset, method, name, value, column.protocol, column.higher_is_better, column.digits)


def format_results(results: Sequence[Result]) -> str:
    """A table of results as CSV text."""
    return format_csv(COLUMNS, [{name: _text(value) for name, value in asdict(each).items()} for each in results])


def write_results(path: Path, results: Sequence[Result]) -> None:
    """Write a table of results, completely or not at all."""
    write_text(path, format_results(results))


def read_results(path: Path) -> list[Result]:
    """The results in a table.

    Raises:
        UserError: it cannot be read, or has other columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        if set(reader.fieldnames or ()) == _BEFORE:
            rows = [{"method": row.pop("weights"), **row} for row in rows]
        elif tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
        return [_parsed(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{path}: no table of results ({error}); restore it, or let it be measured again") from error


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parsed(row: dict[str, Any]) -> Result:
    if None in row or None in row.values():
        raise ValueError("a line has more or fewer cells than columns")
    k = row.get("k") or None
    better = row.get("higher_is_better", "true")
    return Result(
        row["dataset"], row["method"], row["metric"], float(row["value"]), row["protocol"],
        None if better == "" else {"true": True, "false": False}[better],
        int(row.get("digits") or 4),
        iteration=_optional(row.get("iteration"), int),
        k=int(k) if k is not None and k != "mean" else k,
        pictures=_optional(row.get("pictures"), int),
        weights=row.get("weights") or None,
        kmac=_optional(row.get("kmac"), float),
    )  # fmt: skip


def _optional(text: str | None, kind: type) -> Any:
    return kind(text) if text else None
