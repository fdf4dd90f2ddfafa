"""Collect the results of runs and sweeps in one list of values, each with its axes, its seed and its protocol."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atbsn.engine.evaluation.results import COMPARED_MEANS, MEANS, read_results
from atbsn.engine.sweeps.ledger import LEDGER, read_ledger
from atbsn.options.load import parse_yaml
from atbsn.utils.errors import UserError
from atbsn.utils.types import Hole

_NOT_AXES = ("name", "manual_seed", "path.", "logger.", "val.", "datasets.val", "datasets.test", "num_gpu", "test.")
"""Beginnings of options that do not tell trainings apart."""


@dataclass(frozen=True)
class Value:
    """One number.

    Attributes:
        source: the run or point.
        axes: (axis, label) pairs that tell runs apart, without the seed.
        seed: seed of the training. Means are taken over seeds.
        dataset: name of the set in the options.
        method: ``denoised``, ``k=3``, ``mean``, ``noisy``, or ``net`` and ``ema`` of a training's own validation.
        metric: name of the metric in the options.
        protocol: how the metric is computed, in words.
        value: the number.
        iteration: iteration of a training's own validation; None for results of atbsn valid and atbsn compare.
        num_pictures: number of pictures that it is a mean of; None if the file does not say it.
        weights: the weight file, if it is known.
        core_minutes: minutes times cores of its training, with the trainings before it; None if not recorded.
        kmac: thousands of multiply-adds a pixel, if atbsn compare has counted them.
        k: blind spot, or ``mean`` of a family, if it was measured at one.
        higher_is_better: whether higher or lower is better; None: neither.
        digits: digits after the decimal point in tables.
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
    k: Hole | None = None
    higher_is_better: bool | None = True
    digits: int = 4


def collect(paths: list[Path]) -> list[Value]:
    """Read sweeps (``experiments/<sweep>``), runs (``experiments/<name>``) and results (``results/<name>``).

    Raises:
        UserError: a path is none of these, a file cannot be read, or nothing was found at all.
    """
    values: list[Value] = []
    runs = []
    for path in paths:
        if (path / LEDGER).is_file():
            values += _sweep(path)
        elif (path / "metrics.csv").is_file() and (path / "options.yml").is_file():
            runs.append(path)
        elif tables := _result_files(path):
            for table in tables:
                values += _results(table, path.as_posix(), (("run", path.name),), "", None, None)
        else:
            raise UserError(
                f"{path}: neither a sweep ({LEDGER}), nor a run (options.yml and metrics.csv), nor results of "
                "atbsn valid or atbsn compare; give such folders"
            )
    values += _runs(runs)
    if not values:
        raise UserError(f"{', '.join(map(str, paths))}: no values yet; let a training validate, or run atbsn valid")
    return values


def _sweep(folder: Path) -> Iterator[Value]:
    entries = read_ledger(folder / LEDGER)
    for name, entry in entries.items():
        if entry["status"] != "done":
            continue
        axes, seed = _without_seed(entry)
        if entry["kind"] == "train":
            yield from _training(Path(entry["folder"]), name, axes, seed, _core_minutes(entries, name))
            continue
        pattern = f"*/{MEANS if entry['kind'] == 'valid' else COMPARED_MEANS}"
        tables = sorted(Path(entry["folder"]).glob(pattern))
        if not tables:
            raise UserError(f"{entry['folder']}: no {pattern} in it; let atbsn {entry['kind']} measure it again")
        for table in tables:
            minutes = _core_minutes(entries, entry["needs"])
            for value in _results(table, name, axes, seed, Path(entry["weights"]), minutes):
                yield _alone(value) if entry["kind"] == "compare" else value


def _alone(value: Value) -> Value:
    """Remove the axis ``k``, except from a mean: one blind spot gives the same in every family it was measured with."""
    if value.k in (None, "mean"):
        return value
    return replace(value, axes=tuple(axis for axis in value.axes if axis[0] != "k"))


def _without_seed(entry: dict[str, Any]) -> tuple[tuple[tuple[str, str], ...], str]:
    """The axes without the seed, and the seed. The stage is an axis, too: points of two stages are never the same."""
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
    """Read runs. Their axes are the options in which they differ."""
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
    for each in read_results(path) if path.is_file() else ():
        if each.iteration is None:
            raise UserError(f"{path}: not a training's metrics.csv (a row without an iteration); restore it")
        weights = folder / "models" / "net_latest.pth"
        yield Value(
            source, axes, seed, each.dataset, each.method, each.metric, each.protocol, each.value, each.iteration, None,
            weights, core_minutes, higher_is_better=each.higher_is_better, digits=each.digits,
        )  # fmt: skip


def _result_files(path: Path) -> list[Path]:
    return sorted([*path.glob(f"*/{MEANS}"), *path.glob(f"*/{COMPARED_MEANS}")])


def _results(
    path: Path, source: str, axes: tuple[tuple[str, str], ...], seed: str, weights: Path | None, minutes: float | None
) -> Iterator[Value]:
    """Read results of atbsn valid or atbsn compare. A result at a blind spot is called ``k=3`` for any weights."""
    for each in read_results(path):
        method = each.method if each.k is None else "mean" if each.k == "mean" else f"k={each.k}"
        own = Path(each.weights) if each.weights else None
        yield Value(
            source, axes, seed, each.dataset, method, each.metric, each.protocol, each.value, None, each.pictures,
            weights or own, minutes, each.kmac, each.k, each.higher_is_better, each.digits,
        )  # fmt: skip
