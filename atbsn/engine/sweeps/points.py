"""The points of a sweep: commands with their options, in an order in which they can run."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from atbsn.engine.sweeps.file import Measurement, Sweep, SweepTraining, trainings
from atbsn.options import Options, read_layers
from atbsn.options.check import check_options
from atbsn.options.files import find_option_file
from atbsn.utils.errors import UserError

PointKind = Literal["train", "valid", "compare"]
"""The command of a point."""


@dataclass(frozen=True)
class Point:
    """One command of a sweep.

    Attributes:
        kind: the command.
        name: name of the run, ``<sweep>/[<stage>/]<labels>``.
        stage: points of one stage take about the same time.
        axes: label by axis, first those of the training that it follows.
        seed: ``manual_seed`` of the training.
        sources: option files; values in later ones replace earlier ones.
        overrides: ``a.b=value``, for ``--set``.
        arguments: other arguments of the command.
        needs: id of the training whose weights it uses; None: none.
        options: the checked options.
        digest: checksum of the options. A point with other options is another point.
    """

    kind: PointKind
    name: str
    stage: str
    axes: dict[str, str]
    seed: int | None
    sources: tuple[Path, ...]
    overrides: tuple[str, ...]
    arguments: tuple[str, ...]
    needs: str | None
    options: Options
    digest: str

    @property
    def id(self) -> str:
        """A text that no other point of the sweep has."""
        return f"{self.kind} {self.name}"

    @property
    def folder(self) -> Path:
        """The folder of its results."""
        kind = "experiments" if self.kind == "train" else "results"
        return Path(self.options.path.root) / kind / self.name

    @property
    def log(self) -> Path:
        """The file of the command's output."""
        experiments = Path(self.options.path.root) / "experiments"
        return experiments / f"{self.name}{'' if self.kind == 'train' else f'.{self.kind}'}.log"

    @property
    def weights(self) -> Path:
        """The weight file of a training."""
        return self.folder / "models" / "net_latest.pth"

    def is_there(self) -> bool:
        """Whether the result exists."""
        pattern = {"train": "models/net_latest.pth", "valid": "*/metrics.csv", "compare": "*/comparison.csv"}[self.kind]
        return any(self.folder.glob(pattern))

    def command(self, python: str) -> list[str]:
        """The command line. A training that was interrupted continues."""
        words = [python, "-m", "atbsn", self.kind, *self.arguments, "-opt", *map(str, self.sources)]
        return words + ["--auto_resume"] * (self.kind == "train") + ["--set", *self.overrides]


def expand(sweep: Sweep, path: Path) -> list[Point]:
    """All points with checked options; each training comes before the points that follow it.

    Raises:
        UserError: points have faults. The message lists the faults of all points, each once.
    """
    collector = _Collector(sweep.name)
    for training in trainings(sweep):
        collector.add_training(training, None)
    collector.check_folders()
    if collector.faults:
        lines = []
        for fault, where in collector.faults.items():
            lines.append(f"  {where[0]}{f' and {len(where) - 1} more' if len(where) > 1 else ''}: {fault}")
        count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
        raise UserError(f"{path}: {count}\n" + "\n".join(lines))
    return collector.points


@dataclass(frozen=True)
class _Parent:
    """A training that other points follow."""

    id: str
    label: str
    name: str
    axes: dict[str, str]
    seed: int | None
    sources: tuple[str, ...]
    overrides: tuple[str, ...]
    weights: Path


class _Collector:
    """Collects the points of a sweep and their faults."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.points: list[Point] = []
        self.faults: dict[str, list[str]] = {}
        self.taken: dict[tuple[str, str], int] = {}

    def add_training(self, training: SweepTraining, parent: _Parent | None) -> None:
        for axes, settings in combinations(training.grid):
            sources = _sources(training.base, settings)
            overrides = {**training.options, **settings}
            if parent is not None:
                assert training.weights is not None, "checked with the file"
                overrides[training.weights] = parent.weights.as_posix()
                if parent.seed is not None:
                    overrides.setdefault("manual_seed", parent.seed)
            label = "--".join(filter(None, (parent.label if parent else "", label_of(axes)))) or "point"
            name = "/".join(filter(None, (self.name, training.stage, label)))
            axes = {**(parent.axes if parent else {}), **axes}
            words = _assignments({"name": name, **overrides})
            point = self._add(
                "train", name, training.stage or "", axes, sources, words, (), parent.id if parent else None
            )
            seed = overrides.get("manual_seed") if point is None else point.options.manual_seed
            root = Path() if point is None else Path(point.options.path.root)
            weights = root / "experiments" / name / "models" / "net_latest.pth"
            here = _Parent(f"train {name}", label, name, axes, seed, sources, words, weights)
            for then in training.then:
                if then.valid is not None:
                    self._add_measurement("valid", then.valid, here)
                if then.compare is not None:
                    self._add_measurement("compare", then.compare, here)
                if then.train is not None:
                    self.add_training(then.train, here)

    def check_folders(self) -> None:
        """Note a fault if two points share a folder, or if the points have several values of ``path.root``."""
        for (kind, name), count in self.taken.items():
            if count > 1:
                remedy = "give their steps a stage, or their values labels"
                self._fault(f"{kind} {name}", f"{count} points of this name; {remedy}")
        roots = sorted({point.options.path.root for point in self.points})
        if len(roots) > 1:
            self._fault(self.name, f"path.root: {', '.join(roots)}; one for all points")

    def _add_measurement(self, kind: PointKind, step: Measurement, parent: _Parent) -> None:
        for axes, settings in combinations(step.grid):
            ks = settings.pop("k", step.k)
            label = "--".join(filter(None, (parent.label, label_of(axes))))
            if step.stage is None and not axes:
                name = parent.name
            else:
                name = "/".join(filter(None, (self.name, step.stage, label)))
            sources = _sources(step.base, settings)
            given = {"name": name, "path.pretrain_network": parent.weights.as_posix(), **step.options, **settings}
            words = _assignments(given)
            arguments: tuple[str, ...] = ()
            if step.base is None:
                words, sources = parent.overrides + words, parent.sources + sources
            if kind == "valid" and ks is not None:
                arguments = ("--k", *map(str, ks))
            elif kind == "compare":
                weights = parent.weights.as_posix()
                arguments = (weights, *(("--k", *map(str, ks)) if ks else ()), *(("--mean",) if step.mean else ()))
            stage = f"{parent.name.rpartition('/')[0]} {step.stage or ''}"
            self._add(kind, name, stage, {**parent.axes, **axes}, sources, words, arguments, parent.id, parent.seed)

    def _add(
        self, kind: PointKind, name: str, stage: str, axes: dict[str, str], sources: tuple[str, ...],
        overrides: tuple[str, ...], arguments: tuple[str, ...], needs: str | None, seed: int | None = None,
    ) -> Point | None:  # fmt: skip
        self.taken[kind, name] = self.taken.get((kind, name), 0) + 1
        source = " + ".join(sources)
        try:
            files = tuple(map(find_option_file, sources))
            raw = read_layers(files, overrides)
            options = check_options(raw, source)
            self._check_use(kind, name, options)
        except UserError as error:
            first, *rest = str(error).splitlines()
            for fault in [line.strip() for line in rest] or [first]:
                self._fault(f"{kind} {name}", f"{source}: {fault}" if rest else fault)
            return None
        text = json.dumps([raw, arguments], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
        seed = options.manual_seed if kind == "train" else seed
        point = Point(kind, name, stage, axes, seed, files, overrides, arguments, needs, options, digest)
        self.points.append(point)
        return point

    def _check_use(self, kind: PointKind, name: str, options: Options) -> None:
        if kind == "train":
            needed = {"train": options.train, "datasets.train": options.datasets.get("train"), "model": options.model}
            missing = [key for key, value in needed.items() if value is None]
            if missing:
                self._fault(
                    f"{kind} {name}",
                    f"{', '.join(missing)}: missing; training needs it (atbsn options list names methods and data)",
                )
        elif not options.dataset_names("val"):
            self._fault(f"{kind} {name}", "datasets: no entry begins with 'val'; add one with references")

    def _fault(self, where: str, fault: str) -> None:
        self.faults.setdefault(fault, []).append(where)


def _sources(base: list[str] | str | None, settings: dict[str, Any]) -> tuple[str, ...]:
    """The option files of ``base``, and those of the axes ``file.NAME``, which are removed from ``settings``."""
    over = [settings.pop(key) for key in list(settings) if key.startswith("file.")]
    return (*([base] if isinstance(base, str) else base or []), *over)


def combinations(grid: dict[str, Any]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Yield every point of a grid: its label by axis, and its options."""
    axes = [[(key, *entry) for entry in _labelled(key, axis)] for key, axis in grid.items()]
    short = _short_names(list(grid))
    for choice in itertools.product(*axes):
        settings: dict[str, Any] = {}
        for key, _, value in choice:
            settings.update(value if key.startswith("set.") else {key: value})
        yield {short[key]: label for key, label, _ in choice}, settings


def label_of(axes: dict[str, str]) -> str:
    """The part of a folder's name that names the labels: ``k_train-9--seed-0``."""
    return "--".join(f"{axis}-{label}" for axis, label in axes.items())


def _labelled(key: str, axis: list[Any] | dict[str, Any]) -> list[tuple[str, Any]]:
    if isinstance(axis, dict):
        return list(axis.items())
    if key.startswith("file."):
        return [(_plain(Path(value).stem), value) for value in axis]
    return [("_".join(map(_plain, value)) if isinstance(value, list) else _plain(value), value) for value in axis]


def _plain(value: object) -> str:
    """``value`` as a part of a file name. Characters such as path separators become ``_``."""
    text = json.dumps(value) if isinstance(value, bool) or value is None else str(value)
    return "".join(letter if letter.isalnum() or letter in "_.-" else "_" for letter in text)


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """A short name for each key: its last part if no other key has it, otherwise the whole key. ``manual_seed`` is
    called ``seed``."""
    last = {key: "seed" if key == "manual_seed" else key.rpartition(".")[2] for key in keys}
    taken = list(last.values())
    return {key: name if taken.count(name) == 1 else key for key, name in last.items()}


def _assignments(options: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{key}={json.dumps(value)}" for key, value in options.items())
