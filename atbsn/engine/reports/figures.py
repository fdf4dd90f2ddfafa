"""Figures of runs and sweeps, with matplotlib (the extra ``[report]``)."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from atbsn.archs.base import BlindSpotNetwork
from atbsn.archs.weights import load_with_metadata
from atbsn.engine.evaluation.comparison import kmac_per_pixel
from atbsn.engine.reports.collect import Value
from atbsn.engine.reports.tables import Cell, cell_of, final
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_atomically

_SIZE, _SIZES = (5.2, 3.9), {"macs": (8.0, 4.2)}
"""Inches: width and height of a figure, and of those kinds that have a legend at the side. Chosen by hand."""
_MARKERS = "osd^v<>PX*"
"""matplotlib's markers, in the order in which they are used."""
_Selection = Sequence[Value]
"""The values of one data set, metric and protocol."""


def draw(kind: str, values: Sequence[Value], folder: Path) -> list[Path]:
    """Draw one kind of figure for every data set and metric: PNG for the screen and PDF for the paper.

    - ``heatmap``: the value at each blind spot of the training and of the test, mean over seeds;
    - ``k``: the value against the blind spot at test, a line a point;
    - ``curves``: the value against iterations, a line a point, with the range of its seeds;
    - ``macs``: the value against MACs a pixel, and against core-minutes of training where a sweep has recorded them.

    Raises:
        UserError: matplotlib is missing, or nothing of this kind can be drawn from the values.
    """
    pyplot = _pyplot()
    paths: list[Path] = []
    missing = ""
    for dataset, metric, protocol in dict.fromkeys((v.dataset, v.metric, v.protocol) for v in values):
        chosen = [v for v in values if (v.dataset, v.metric, v.protocol) == (dataset, metric, protocol)]
        for name, paint in PAINTERS[kind]:
            figure, axes = pyplot.subplots(figsize=_SIZES.get(kind, _SIZE), layout="constrained")
            try:
                paint(axes, chosen)
            except _NothingToDrawError as error:
                missing = str(error)
                pyplot.close(figure)
                continue
            axes.set_title(f"{dataset}\n{metric}: {protocol}", fontsize=8)
            number = sum(path.stem.startswith(f"{name}_{dataset}_{metric}") for path in paths) // 2
            stem = f"{name}_{dataset}_{metric}{f'_{number + 1}' if number else ''}"
            for suffix in ("png", "pdf"):
                path = folder / f"{stem}.{suffix}"
                write_atomically(path, partial(figure.savefig, format=suffix, dpi=200))
                paths.append(path)
            pyplot.close(figure)
    if not paths:
        raise UserError(f"--figures {kind}: nothing to draw: {missing or 'no values'}")
    return paths


class _NothingToDrawError(Exception):
    """A figure cannot be drawn from these values; the message says why."""


def _heatmap(axes: Any, values: _Selection) -> None:
    cells: dict[tuple[int, int], list[Value]] = {}
    for value in final(values):
        trained = dict(value.axes).get("k_train", dict(value.axes).get("model.k_train"))
        if isinstance(value.k, int) and trained is not None and trained.isdecimal():
            cells.setdefault((int(trained), value.k), []).append(value)
    if not cells:
        raise _NothingToDrawError("it takes an axis k_train and results of atbsn valid --k")
    rows, columns = sorted({key[0] for key in cells}), sorted({key[1] for key in cells})
    means = {key: cell_of(part).mean for key, part in cells.items()}
    grid = [[means.get((row, column), float("nan")) for column in columns] for row in rows]
    image = axes.imshow(grid, cmap="viridis", aspect="auto", origin="lower")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel="k at test", ylabel="k at training")
    low, high, digits = min(means.values()), max(means.values()), values[0].digits
    for (row, column), mean in means.items():
        text = f"{mean:.{digits}f}"
        axes.text(
            columns.index(column), rows.index(row), text, ha="center", va="center", fontsize=8,
            color="black" if mean > (low + high) / 2 else "white", fontweight="bold" if mean == high else "normal",
        )  # fmt: skip
    axes.figure.colorbar(image, ax=axes)


def _against_k(axes: Any, values: _Selection) -> None:
    points: dict[str, dict[int, list[Value]]] = {}
    for value in final(values):
        if isinstance(value.k, int):
            points.setdefault(_name(value), {}).setdefault(value.k, []).append(value)
    if not points:
        raise _NothingToDrawError("it takes results of atbsn valid --k")
    for name, by_k in points.items():
        ks = sorted(by_k)
        cells = [cell_of(by_k[k]) for k in ks]
        (line,) = axes.plot(ks, [cell.mean for cell in cells], marker="o", markersize=3, label=name)
        _band(axes, ks, cells, line.get_color())
    axes.set(xlabel="k at test", ylabel=values[0].metric)
    axes.set_xticks(sorted({k for by_k in points.values() for k in by_k}))
    axes.legend(fontsize=6)


def _curves(axes: Any, values: _Selection) -> None:
    points: dict[str, dict[int, list[Value]]] = {}
    for value in values:
        if value.iteration is not None:
            name = _name(value) + (" (ema)" if value.method == "ema" else "")
            points.setdefault(name, {}).setdefault(value.iteration, []).append(value)
    if not points:
        raise _NothingToDrawError("it takes trainings that validate (val.val_freq)")
    for name, by_iteration in points.items():
        iterations = sorted(by_iteration)
        cells = [cell_of(by_iteration[iteration]) for iteration in iterations]
        (line,) = axes.plot(iterations, [cell.mean for cell in cells], marker=".", label=name)
        _band(axes, iterations, cells, line.get_color())
    axes.set(xlabel="iteration", ylabel=values[0].metric)
    axes.legend(fontsize=6)


def _band(axes: Any, positions: Sequence[int], cells: Sequence[Cell], colour: Any) -> None:
    """Draw a band of one standard deviation over seeds to both sides of the means."""
    spreads = [cell.spread or 0.0 for cell in cells]
    if any(spreads):
        below = [cell.mean - spread for cell, spread in zip(cells, spreads, strict=True)]
        above = [cell.mean + spread for cell, spread in zip(cells, spreads, strict=True)]
        axes.fill_between(positions, below, above, color=colour, alpha=0.2, linewidth=0)


def _against_macs(axes: Any, values: _Selection) -> None:
    _scatter(axes, values, _kmac, "kMAC a pixel", "it takes weight files that are still there")


def _against_minutes(axes: Any, values: _Selection) -> None:
    _scatter(axes, values, lambda value: value.core_minutes, "core-minutes of training", "it takes a sweep")


def _scatter(
    axes: Any, values: _Selection, position: Callable[[Value], float | None], title: str, missing: str
) -> None:
    points: dict[str, list[tuple[float, Value]]] = {}
    for value in final(values):
        place = None if value.method == "noisy" else position(value)
        if place:
            points.setdefault(f"{_name(value)} {value.method}", []).append((place, value))
    if not points:
        raise _NothingToDrawError(missing)
    for index, (name, part) in enumerate(points.items()):
        cell, place = cell_of([value for _, value in part]), fmean(place for place, _ in part)
        marker = _MARKERS[index // 10 % len(_MARKERS)]  # ten colours before the next marker
        axes.errorbar(
            place, cell.mean, yerr=cell.spread, marker=marker, markersize=4, capsize=2, linestyle="none", label=name
        )
    axes.set(xscale="log", xlabel=title, ylabel=values[0].metric)
    axes.figure.legend(fontsize=6, loc="outside right upper")


_KMACS: dict[tuple[Path, str], float] = {}
"""Thousands of MACs a pixel that have been counted, by weight file and method."""


def _kmac(value: Value) -> float | None:
    """Thousands of MACs a pixel, counted from the network in the weight file; for the mean of a family, those that
    atbsn compare has counted. None if there is neither."""
    if value.k == "mean":
        return value.kmac
    key = (value.weights or Path(), value.method)
    if value.weights is None or not value.weights.is_file():
        return None
    if key not in _KMACS:
        net, _ = load_with_metadata(value.weights)
        settings = {"k": value.k} if value.k is not None and isinstance(net, BlindSpotNetwork) else None
        _KMACS[key] = kmac_per_pixel(net, (), settings)
    return _KMACS[key]


def _name(value: Value) -> str:
    return ", ".join(label if axis in ("stage", "run") else f"{axis} {label}" for axis, label in value.axes) or "run"


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise UserError("--figures: needs matplotlib; pip install matplotlib, or the extra [report]") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


PAINTERS: dict[str, list[tuple[str, Callable[[Any, _Selection], None]]]] = {
    "heatmap": [("heatmap", _heatmap)],
    "k": [("k", _against_k)],
    "curves": [("curves", _curves)],
    "macs": [("macs", _against_macs), ("minutes", _against_minutes)],
}
"""For each kind of ``draw``, the names of its figures and the functions that draw them."""
