"""Means over groups of pictures, such as those of one phone or one ISO. They show where a method is good or bad."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from atbsn.engine.evaluation.evaluator import Column, Row, means
from atbsn.utils import dist
from atbsn.utils.files import write_text
from atbsn.utils.tables import format_csv

_OWN = {"index", "image", "method"}
"""Entries of a row that are neither metrics nor groups."""


def group_means(rows: list[Row], metrics: Iterable[str]) -> list[dict[str, Any]]:
    """The mean of each metric over the pictures of each group and method.

    Args:
        rows: rows of ``evaluate``. Entries other than its own and ``metrics`` are groups.
        metrics: names of the metrics.

    Returns:
        Dicts with ``group`` ("iso"), ``value`` ("800"), ``method``, ``pictures`` (the number) and the metrics, sorted.
    """
    metrics = list(metrics)
    members: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        for label in row.keys() - _OWN - set(metrics):
            members.setdefault((label, row[label]), []).append(row)
    return [
        {"group": label, "value": value, "method": method, "pictures": _count(part, method), **values}
        for (label, value), part in sorted(members.items(), key=lambda item: _order(*item[0]))
        for method, values in means(part, metrics).items()
    ]


def format_groups(entries: list[dict[str, Any]], metrics: Mapping[str, Column]) -> str:
    """The means as text, with one line for each group and method."""
    names = [f"{entry['group']} {entry['value']}" for entry in entries]
    width, column = max(map(len, names)), max(len(entry["method"]) for entry in entries)
    lines = [f"{'':{width}}  {'':{column}}  pictures " + " ".join(f"{name:>12}" for name in metrics)]
    for name, entry in zip(names, entries, strict=True):
        values = " ".join(f"{entry[name]:12.{metric.digits}f}" for name, metric in metrics.items())
        lines.append(f"{name:{width}}  {entry['method']:{column}}  {entry['pictures']:8d} {values}")
    return "\n".join(lines)


def write_groups(path: Path, entries: list[dict[str, Any]], metrics: Mapping[str, Column]) -> None:
    """Write one line for each group and method as CSV. The header names the protocol of every metric."""
    if not entries or not dist.is_main():
        return
    titles = {name: f"{name} [{metric.protocol}]" for name, metric in metrics.items()}
    renamed = [{titles.get(key, key): value for key, value in entry.items()} for entry in entries]
    write_text(path, format_csv(renamed[0], renamed))


def _count(rows: list[Row], method: str) -> int:
    return sum(row["method"] == method for row in rows)


def _order(label: str, value: str) -> tuple[str, bool, int, str]:
    """The key to sort groups by: numbers by their size, and before names."""
    return label, not value.isdecimal(), int(value) if value.isdecimal() else 0, value
