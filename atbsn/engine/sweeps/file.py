"""The sweep file: which trainings to run, over which options, and what follows each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from atbsn.options.load import merge, parse_yaml
from atbsn.options.section import Section
from atbsn.registry.build import describe_faults
from atbsn.utils.errors import UserError

Label = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
"""A part of the names of points."""
GridAxis = Annotated[list[Any], Field(min_length=1)] | Annotated[dict[Label, Any], Field(min_length=1)]
"""The values of an option, as a list or by label. A value that is a mapping needs a label."""


class _Step(Section):
    base: list[str] | str | None = None
    """Option file, or several of which later ones replace values: a path from the sweep file, or a name for -opt."""
    options: dict[str, Any] = Field(default={})
    """Options of every point, which replace those of the option file: ``a.b: value``."""
    grid: dict[str, GridAxis] = Field(default={})
    """Every combination of values is a point. A key is an option; or ``set.NAME``, whose labelled values are several
    options each; or ``file.NAME``, whose values are option files that are added to ``base``."""
    stage: Label | None = None
    """Folder of these points inside of the folder of the sweep."""


class Measurement(_Step):
    """``valid`` or ``compare`` on the weights of a training. Without ``base`` it uses the options of that training."""

    k: list[int | Literal["mean"]] | None = None
    """Blind spots, from one pass. An axis ``k`` of the grid replaces it."""
    mean: bool = False
    """Also the mean over ``k`` (``compare``)."""


class Then(Section):
    """What follows a training and uses its weights: one of these."""

    train: SweepTraining | None = None
    valid: Measurement | None = None
    compare: Measurement | None = None


class SweepTraining(_Step):
    """``train``: a training, or a grid of them, with what follows."""

    weights: str | None = None
    """The option that gets the weights of the training that this one follows, such as ``model.teacher``."""
    then: list[Then] = Field(default=[])


class Sweep(SweepTraining):
    """The whole sweep file: one training, or several in ``trainings``."""

    name: Label
    trainings: list[SweepTraining] = Field(default=[])


Then.model_rebuild()


def read_sweep(path: Path, *over: Path) -> Sweep:
    """Read a sweep file. Values in the files ``over`` replace its own.

    Top-level keys ``x-...`` are ignored: they are a place for YAML's anchors.

    Raises:
        UserError: a file cannot be read, or the sweep has faults; the message lists all of them.
    """
    raw: dict[str, Any] = {"name": path.stem}
    for each in (path, *over):
        raw = merge(raw, _read(each))
    try:
        sweep = Sweep.model_validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        faults = list(_faults(error, raw))
        raise UserError(f"{path}: {len(faults)} fault(s)\n" + "\n".join(f"  {fault}" for fault in faults)) from None
    if faults := list(_structure_faults(sweep)):
        raise UserError(f"{path}: {len(faults)} fault(s)\n" + "\n".join(f"  {fault}" for fault in faults))
    return sweep


def _read(path: Path) -> dict[str, Any]:
    """Read one sweep file. Option files that it names by a path from itself get whole paths."""
    try:
        raw = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"{path}: cannot be read: {reason}; check the path") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: holds {type(raw).__name__}, but a sweep is a mapping of key: value (docs/sweeps.md)")
    return {key: _located(value, key, path) for key, value in raw.items() if not key.startswith("x-")}


def _located(value: Any, key: str, path: Path, files: bool = False) -> Any:
    """``value`` with the names of option files replaced by their paths, if they are beside the sweep file ``path``.

    Option files are named below ``base`` and ``file.NAME``.
    """
    files = files or key == "base" or key.startswith("file.")
    if isinstance(value, dict):
        return {name: _located(each, name, path, files) for name, each in value.items()}
    if isinstance(value, list):
        return [_located(each, "", path, files) for each in value]
    beside = path.parent / value if files and isinstance(value, str) else None
    return str(beside) if beside is not None and beside.is_file() else value


def trainings(sweep: Sweep) -> list[SweepTraining]:
    """The trainings that do not follow another one."""
    return sweep.trainings or [sweep]


def _faults(error: ValidationError, raw: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(describe_faults(error, Sweep, raw)))


def _structure_faults(sweep: Sweep) -> list[str]:
    faults = []
    if sweep.trainings and (sweep.base or sweep.grid or sweep.options or sweep.then):
        faults.append("trainings: stands beside base, grid, options or then; put these into its entries")
    for index, training in enumerate(trainings(sweep)):
        place = f"trainings.{index}." if sweep.trainings else ""
        if training.base is None and not any(key.startswith("file.") for key in training.grid):
            faults.append(f"{place}base: missing; name the option file that is trained from, such as train_atbsn.yml")
        if training.weights is not None:
            faults.append(f"{place}weights: it follows on no training; use options: {{path.pretrain_network: FILE}}")
        faults += _then_faults(training, place)
        faults += _grid_faults(training, place, ())
    return faults


def _then_faults(training: SweepTraining, place: str) -> list[str]:
    faults = []
    for index, then in enumerate(training.then):
        here = f"{place}then.{index}"
        steps = {kind: getattr(then, kind) for kind in ("train", "valid", "compare") if getattr(then, kind) is not None}
        if len(steps) != 1:
            faults.append(f"{here}: {', '.join(steps) or 'nothing'}; name one of train, valid, compare")
        for kind, step in steps.items():
            faults += _grid_faults(step, f"{here}.{kind}.", () if kind == "train" else ("k",))
        if then.train is not None:
            for key in ("base", "weights", "stage"):
                if getattr(then.train, key) is None:
                    faults.append(f"{here}.train.{key}: missing; a training that follows on another needs it")
            faults += _then_faults(then.train, f"{here}.train.")
        for kind in ("valid", "compare"):
            step = getattr(then, kind)
            if step is not None and step.mean and (kind == "valid" or (step.k is None and "k" not in step.grid)):
                faults.append(
                    f"{here}.{kind}.mean: compare gives it, of the k that are named; use compare, k: [0, 1, 3]"
                )
    return faults


def _grid_faults(step: _Step, place: str, own: tuple[str, ...]) -> list[str]:
    faults = []
    for key, axis in step.grid.items():
        values = axis.values() if isinstance(axis, dict) else axis
        if key.startswith("set."):
            if not isinstance(axis, dict) or not all(isinstance(value, dict) for value in values):
                faults.append(f"{place}grid.{key}: its values are not label: {{option: value, ...}}; write them so")
        elif key.startswith("file."):
            if not all(isinstance(value, str) for value in values):
                faults.append(f"{place}grid.{key}: its values are not option files; write [apbsn.yml, tmbsn.yml]")
        elif key in own:
            if not all(isinstance(value, list) and all(type(k) is int for k in value) for value in values):
                faults.append(f"{place}grid.{key}: its values are not lists of blind spots; write [[0], [0, 1, 3]]")
        elif not isinstance(axis, dict) and any(isinstance(value, dict) for value in values):
            faults.append(f"{place}grid.{key}: a mapping among its values has no name; write label: {{...}} for each")
    return faults
