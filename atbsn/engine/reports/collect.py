"""What runs and sweeps left, as one list of values: each with its axes, its seed and its protocol."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from atbsn.engine.sweeps.ledger import FILE, read_ledger
from atbsn.options.load import parse_yaml
from atbsn.utils.errors import UserError

_TITLE = re.compile(r"(?P<metric>[^\[]+?) \[(?P<protocol>.*)\]")
_LABEL = re.compile(r"(?:.* )?(k=\d+|mean)")
_NOT_AXES = ("name", "manual_seed", "path.", "logger.", "val.", "datasets.val", "datasets.test", "num_gpu", "test.")


@dataclass(frozen=True)
class Value:
    """One number.

    Attributes:
        source: the run or point.
        axes: what tells runs apart, label by axis; the seed is none of them.
        seed: the values over which means are taken.
        dataset: name of the set in the options.
        method: ``denoised``, ``k=3``, ``mean``, ``noisy``, or ``net`` and ``ema`` of a training's own validation.
        iteration: of a training's own validation; None for what atbsn valid and atbsn compare measured.
        num_pictures: that it is a mean of; None where the file does not tell.
        weights: file that was measured, where it is known.
        core_minutes: that its training took, the trainings before it included; None where they were not recorded.
        kmac: thousands of multiply-adds a pixel, where atbsn compare has counted them.
    """

    source: str
    axes: tuple[tuple[str, str], ...]
    seed: str
    dataset: str
    method: str
    metric: str
    protocol: str
    value: float
    iteration: int | None = None
    num_pictures: int | None = None
    weights: Path | None = None
    core_minutes: float | None = None
    kmac: float | None = None


def collect(paths: list[Path]) -> list[Value]:
    """The values of sweeps (``experiments/<sweep>``), runs (``experiments/<name>``) and results (``results/<name>``).

    Raises:
        UserError: a path is none of these, a file cannot be read, or nothing was found at all.
    """
    values: list[Value] = []
    runs = []
    for path in paths:
        if (path / FILE).is_file():
            values += _sweep(path)
        elif (path / "metrics.csv").is_file() and (path / "options.yml").is_file():
            runs.append(path)
        elif tables := _result_files(path):
            for table in tables:
                values += _results(table, path.as_posix(), (("run", path.name),), "", _measured_weights(table), None)
        else:
            raise UserError(
                f"{path}: neither a sweep ({FILE}), nor a run (options.yml and metrics.csv), nor results of "
                "atbsn valid or atbsn compare; give such folders"
            )
    values += _runs(runs)
    if not values:
        raise UserError(f"{', '.join(map(str, paths))}: no values yet; let a training validate, or run atbsn valid")
    return values


def _sweep(folder: Path) -> Iterator[Value]:
    entries = read_ledger(folder / FILE)
    for name, entry in entries.items():
        if entry["status"] != "done":
            continue
        axes, seed = _without_seed(entry)
        if entry["kind"] == "train":
            yield from _training(Path(entry["folder"]), name, axes, seed, _core_minutes(entries, name))
            continue
        pattern = "*/metrics.csv" if entry["kind"] == "valid" else "*/comparison.csv"
        for table in sorted(Path(entry["folder"]).glob(pattern)):
            minutes = _core_minutes(entries, entry["needs"])
            for value in _results(table, name, axes, seed, Path(entry["weights"]), minutes):
                yield _alone(value) if entry["kind"] == "compare" else value


def _alone(value: Value) -> Value:
    """One blind spot is the same in every family it was measured in; only the mean is the family's."""
    if not value.method.startswith("k="):
        return value
    return replace(value, axes=tuple(axis for axis in value.axes if axis[0] != "k"))


def _without_seed(entry: dict[str, Any]) -> tuple[tuple[tuple[str, str], ...], str]:
    """Axes and seed; a stage is an axis of its own, since points of two stages are never the same."""
    stage = entry["name"].split("/")[1:-1]
    axes = {"stage": stage[0]} if stage else {}
    axes.update((axis, label) for axis, label in entry["axes"].items() if axis != "seed")
    return tuple(axes.items()), str(entry["seed"])


def _core_minutes(entries: dict[str, dict[str, Any]], name: str | None) -> float:
    minutes = 0.0
    while name is not None:
        entry = entries[name]
        minutes += entry["seconds"] * entry["cores"] / 60
        name = entry["needs"]
    return minutes


def _runs(folders: list[Path]) -> Iterator[Value]:
    """Runs side by side: their axes are the options in which they differ."""
    flat = {folder: _flat(_options(folder)) for folder in folders}
    keys = sorted({key for options in flat.values() for key in options if not key.startswith(_NOT_AXES)})
    differing = [key for key in keys if len({str(options.get(key)) for options in flat.values()}) > 1]
    for folder, options in flat.items():
        axes = tuple((key, str(options.get(key, ""))) for key in differing) or (
            ("run", options.get("name", folder.name)),
        )
        yield from _training(folder, folder.as_posix(), axes, str(options.get("manual_seed")), None)


def _options(folder: Path) -> dict[str, Any]:
    try:
        return parse_yaml((folder / "options.yml").read_text(encoding="utf-8"), str(folder / "options.yml"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / 'options.yml'}: cannot be read ({error}); restore it") from None


def _flat(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in options.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _training(
    folder: Path, source: str, axes: tuple[tuple[str, str], ...], seed: str, core_minutes: float | None
) -> Iterator[Value]:
    path = folder / "metrics.csv"
    for row in _rows(path) if path.is_file() else ():
        try:
            yield Value(
                source, axes, seed, row["dataset"], row["weights"], row["metric"], row["protocol"], float(row["value"]),
                int(row["iteration"]), None, folder / "models" / "net_latest.pth", core_minutes,
            )  # fmt: skip
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f"{path}: not a training's metrics.csv ({error}); restore it") from None


def _result_files(path: Path) -> list[Path]:
    return sorted([*path.glob("*/metrics.csv"), *path.glob("*/comparison.csv")])


def _measured_weights(table: Path) -> Path | None:
    """The weight file that ``about.yml`` names beside a table of atbsn valid."""
    about = table.with_name("about.yml")
    if table.name != "metrics.csv" or not about.is_file():
        return None
    weights = parse_yaml(about.read_text(encoding="utf-8"), str(about)).get("weights")
    return None if weights is None else Path(weights)


def _results(
    path: Path, source: str, axes: tuple[tuple[str, str], ...], seed: str, weights: Path | None, minutes: float | None
) -> Iterator[Value]:
    """Means over pictures of each method: rows are pictures (atbsn valid) or means already (atbsn compare)."""
    rows = _rows(path)
    if not rows or "method" not in rows[0]:
        raise UserError(f"{path}: has no column 'method'; give what atbsn valid or atbsn compare wrote")
    protocols = _protocols(path, list(rows[0]))
    by_method: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_method.setdefault(row["method"], []).append(row)
    for method, part in by_method.items():
        label = _LABEL.fullmatch(method)
        for title, (metric, protocol) in protocols.items():
            try:
                value = fmean(float(row[title]) for row in part)
            except ValueError as error:
                raise UserError(f"{path}: {title}: {error}; let it be measured again") from None
            yield Value(
                source, axes, seed, path.parent.name, label[1] if label else method, metric, protocol, value, None,
                len(part) if "image" in part[0] else None, weights, minutes, _number(part[0].get("kMAC/pixel")),
            )  # fmt: skip


def _protocols(path: Path, titles: list[str]) -> dict[str, tuple[str, str]]:
    """Metric and protocol by the title of its column; atbsn compare says the protocols in the page beside the table."""
    matches = {title: _TITLE.fullmatch(title) for title in titles}
    protocols = {title: (match["metric"], match["protocol"]) for title, match in matches.items() if match}
    page = path.with_suffix(".md")
    if not protocols and page.is_file():
        said = dict(re.findall(r"^- ([^:]+): (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE))
        protocols = {title: (title, said[title]) for title in titles if title in said}
    if not protocols:
        raise UserError(f"{path}: no column names its protocol; let it be measured again")
    return protocols


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [line for line in file if not line.startswith("#")]
        return list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); restore it") from None
