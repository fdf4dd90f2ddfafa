"""Tables of means and standard deviations over seeds, as Markdown, LaTeX and CSV."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from atbsn.engine.reports.collect import Value
from atbsn.utils.tables import format_csv

Format = Literal["md", "latex", "csv"]
FORMAT_SUFFIXES: dict[str, str] = {"md": "md", "latex": "tex", "csv": "csv"}
"""Suffix of the file of each format."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        mean: mean over seeds.
        spread: standard deviation over seeds (n - 1); None for a single seed.
        num: number of seeds.
    """

    mean: float
    spread: float | None
    num: int


@dataclass(frozen=True)
class ColumnFormat:
    """How a metric is shown: whether higher or lower is better (None: neither), and digits after the decimal point."""

    higher_is_better: bool | None
    digits: int


@dataclass(frozen=True)
class Table:
    """The table of one data set: a line for each point and method, a column for each metric and protocol.

    Attributes:
        dataset: name of the set in the options.
        axes: titles of the first columns.
        columns: format of each column, by (metric, protocol).
        lines: for each line the labels of the axes, the method, the cells by column, and core-minutes.
        pictures: what the means are taken over, in words for the caption.
    """

    dataset: str
    axes: tuple[str, ...]
    columns: dict[tuple[str, str], ColumnFormat]
    lines: tuple[tuple[tuple[str, ...], str, dict[tuple[str, str], Cell], float | None], ...]
    pictures: str


def final(values: Sequence[Value]) -> list[Value]:
    """The values at the end of each training: from ``valid`` and ``compare`` or, for other sets, from its last
    validation."""
    measured = [value for value in values if value.iteration is None]
    have = {(value.weights, value.dataset) for value in measured}
    last: dict[tuple[str, str], int] = {}
    for value in values:
        if value.iteration is not None:
            key = value.source, value.dataset
            last[key] = max(last.get(key, 0), value.iteration)
    own = [
        value for value in values
        if value.iteration is not None and value.iteration == last[value.source, value.dataset]
        and (value.weights, value.dataset) not in have
    ]  # fmt: skip
    return measured + own


def build_tables(values: Sequence[Value]) -> list[Table]:
    """A table for each data set."""
    values = final(values)
    return [
        _table(dataset, [value for value in values if value.dataset == dataset])
        for dataset in dict.fromkeys(value.dataset for value in values)
    ]


def cell_of(values: Sequence[Value]) -> Cell:
    """Mean and spread over seeds. Several values of one seed are averaged first."""
    by_seed: dict[str, list[float]] = {}
    for value in values:
        by_seed.setdefault(value.seed, []).append(value.value)
    means = [fmean(part) for part in by_seed.values()]
    return Cell(fmean(means), stdev(means) if len(means) > 1 else None, len(means))


def format_table(table: Table, form: Format) -> str:
    """The table as the text of a file."""
    return {"md": _markdown, "latex": _latex, "csv": _csv}[form](table)


def _table(dataset: str, values: list[Value]) -> Table:
    axes = tuple(dict.fromkeys(axis for value in values for axis, _ in value.axes))
    columns = {(each.metric, each.protocol): ColumnFormat(each.higher_is_better, each.digits) for each in values}
    groups: dict[tuple[tuple[str, ...], str], list[Value]] = {}
    for value in values:
        labels = dict(value.axes)
        row = ("",) * len(axes) if value.method == "noisy" else tuple(labels.get(axis, "") for axis in axes)
        groups.setdefault((row, value.method), []).append(value)
    lines = []
    for (row, method), part in sorted(groups.items(), key=lambda item: item[0][1] != "noisy"):
        cells = {}
        for column in columns:
            if own := [value for value in part if (value.metric, value.protocol) == column]:
                cells[column] = cell_of(own)
        minutes = [value.core_minutes for value in part if value.core_minutes is not None]
        lines.append((row, method, cells, fmean(minutes) if minutes and method != "noisy" else None))
    numbers = sorted({value.num_pictures for value in values if value.num_pictures})
    pictures = f"means of {' or '.join(map(str, numbers))} pictures" if numbers else "means over the set"
    return Table(dataset, axes, columns, tuple(lines), pictures)


def _best(table: Table, column: tuple[str, str]) -> float | None:
    means = [cells[column].mean for _, method, cells, _ in table.lines if method != "noisy" and column in cells]
    higher = table.columns[column].higher_is_better
    if len(means) < 2 or higher is None:
        return None
    return max(means) if higher else min(means)


def _texts(table: Table, plus_minus: str, bold: str) -> list[list[str]]:
    """The cells of all lines as text, with the best means in bold."""
    best = {column: _best(table, column) for column in table.columns}
    body = []
    for row, method, cells, minutes in table.lines:
        texts = []
        for column in table.columns:
            cell, digits = cells.get(column), table.columns[column].digits
            if cell is None:
                texts.append("")
                continue
            text = f"{cell.mean:.{digits}f}"
            if best[column] is not None and text == f"{best[column]:.{digits}f}":
                text = bold.format(text)
            texts.append(text if cell.spread is None else f"{text} {plus_minus} {cell.spread:.{digits}f}")
        seeds = max((cell.num for cell in cells.values()), default=0) if method != "noisy" else ""
        body.append([*row, method, *texts, str(seeds), "" if minutes is None else f"{minutes:.1f}"])
    return body


def _header(table: Table) -> list[str]:
    """The titles of the columns. Metrics are numbered; the caption gives the protocol of each number."""
    return [*table.axes, "method", *_column_titles(table), "seeds", "core-minutes"]


def _column_titles(table: Table) -> list[str]:
    names = [metric for metric, _ in table.columns]
    return [f"{name} ({index})" for index, name in enumerate(names, start=1)]


def _protocol_lines(table: Table) -> list[str]:
    return [f"({index}) {metric}: {protocol}" for index, (metric, protocol) in enumerate(table.columns, start=1)]


def _caption(table: Table) -> str:
    return f"{table.dataset}: {table.pictures}; mean and standard deviation over seeds, best in bold."


def _markdown(table: Table) -> str:
    header = _header(table)
    lines = [_caption(table), "", f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    lines += [f"| {' | '.join(texts)} |" for texts in _texts(table, "±", "**{}**")]
    return "\n".join([*lines, "", *(f"- {line}" for line in _protocol_lines(table))]) + "\n"


def _latex(table: Table) -> str:
    header = _header(table)
    numbers = len(table.columns) + 2
    lines = [
        "% needs \\usepackage{booktabs}", "\\begin{table}", "\\centering",
        f"\\caption{{{_escaped(_caption(table))} {_escaped('; '.join(_protocol_lines(table)))}.}}",
        f"\\begin{{tabular}}{{{'l' * (len(header) - numbers)}{'r' * numbers}}}", "\\toprule",
        f"{' & '.join(map(_escaped, header))} \\\\", "\\midrule",
    ]  # fmt: skip
    for texts in _texts(table, "±", "<b>{}</b>"):
        cells = [_escaped(text).replace("<b>", "\\textbf{").replace("</b>", "}") for text in texts]
        lines.append(f"{' & '.join(cells)} \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]) + "\n"


def _csv(table: Table) -> str:
    """The table as CSV, with all digits and with protocols in the titles, as in the tables of atbsn valid."""
    rows = []
    for row, method, cells, minutes in table.lines:
        line: dict[str, object] = {**dict(zip(table.axes, row, strict=True)), "method": method}
        for metric, protocol in table.columns:
            cell = cells.get((metric, protocol))
            line[f"{metric} [{protocol}]"] = None if cell is None else cell.mean
            line[f"{metric} std [{protocol}]"] = None if cell is None else cell.spread
        line["seeds"] = max((cell.num for cell in cells.values()), default=0)
        rows.append({**line, "core-minutes": minutes})
    return format_csv(rows[0], rows)


def _escaped(text: str) -> str:
    """``text`` with LaTeX's special characters escaped."""
    special = {"\\": r"\textbackslash{}", "±": r"$\pm$", "^": r"\^{}", "~": r"\~{}", "²": "$^2$", "×": r"$\times$"}
    special |= {letter: f"\\{letter}" for letter in "&%$#_{}"}
    return "".join(special.get(letter, letter) for letter in text)
