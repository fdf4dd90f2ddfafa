"""Floor 1: checked, typed options from option files. See ``files``, ``load``, ``schema`` and ``check``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from atbsn.options.check import check_options
from atbsn.options.files import find_option_file, option_files
from atbsn.options.load import apply_override, merge, merge_layers, read_options
from atbsn.options.schema import Options
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger

__all__ = ["Options", "load_options", "option_files", "read_layers"]

_DATA = "{data}"
"""The part of a text that is replaced by the value of the option ``data``."""


def load_options(
    names: str | Sequence[str],
    overrides: Sequence[str] = (),
    debug: bool = False,
    needs_network: bool = True,
    trains: bool = True,
) -> Options:
    """Read, merge and check the option files ``names``, each a path or one found under ``options/``.

    Args:
        names: one file, or several that are laid over one another: a method, then the data, then changes.
        overrides: assignments ``a.b=value`` that are laid over the files.
        debug: make a short run of it that prints every iteration, with the name ``debug_<name>``.
        needs_network: whether the files must name a network, or weights that name theirs.
        trains: whether datasets.train is used. If not, it is left out, since it is incomplete in a file that only names
            data.

    Raises:
        UserError: there are faults; the message lists all of them.
    """
    paths = [find_option_file(name) for name in ([names] if isinstance(names, str) else names)]
    raw = read_layers(paths, overrides, for_device=True)
    if not trains and isinstance(raw.get("datasets"), dict):
        raw["datasets"] = {name: value for name, value in raw["datasets"].items() if name != "train"}
    options = check_options(raw, " + ".join(map(str, paths)), needs_network)
    return _debugged(options) if debug else options


def read_layers(paths: Sequence[Path], overrides: Sequence[str] = (), for_device: bool = False) -> dict[str, Any]:
    """Lay the options of ``paths`` over one another, and ``overrides`` over all of them. They are not checked yet.

    ``{data}`` in a text is replaced by the name of the data. If a method's ``on_data`` names no such data, it is
    dropped.

    Args:
        for_device: lay ``on_cpu`` over the files if there is no GPU.

    Raises:
        UserError: a file cannot be read, an override is not an assignment, or data are needed and none are named.
    """
    source = " + ".join(map(str, paths))
    raw = merge_layers(read_options(path) for path in paths)
    if "on_data" in raw:  # no file names the data; --set may
        raw = merge_layers([raw, {key: value for key, value in _overridden({}, overrides).items() if key == "data"}])
        raw.pop("on_data", None)
    raw = _for_device(raw, overrides, source) if for_device else _overridden(raw, overrides)
    return _with_data(raw, raw.get("data"), source)


def _for_device(raw: dict[str, Any], overrides: Sequence[str], source: str) -> dict[str, Any]:
    """Lay ``on_cpu`` over ``raw`` if there is no GPU, and ``overrides`` over both."""
    laid = _overridden(raw, overrides)
    small = laid.pop("on_cpu", None)
    if small is None:
        return laid
    if not isinstance(small, dict) or "on_cpu" in small:
        raise UserError(f"{source}: on_cpu: {small!r}: not a mapping of options; give some, or leave it out")
    if laid.get("num_gpu", "auto") != 0 and torch.cuda.is_available():
        return laid
    logger.info("no GPU: with the settings for a CPU (on_cpu in %s); --set on_cpu=~ leaves them out", Path(source).name)
    below = {key: value for key, value in raw.items() if key != "on_cpu"}
    return _overridden(merge(below, small), [each for each in overrides if not each.strip().startswith("on_cpu")])


def _overridden(raw: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    for assignment in overrides:
        raw = apply_override(raw, assignment)
    return dict(raw)


def _with_data(value: Any, data: object, source: str, path: str = "") -> Any:
    """Replace ``{data}`` by the name of the data in all texts of ``value``, whose place in the options is ``path``."""
    if isinstance(value, dict):
        return {key: _with_data(each, data, source, f"{path}.{key}" if path else key) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_data(each, data, source, f"{path}.{number}") for number, each in enumerate(value)]
    if not isinstance(value, str) or _DATA not in value:
        return value
    if not isinstance(data, str):
        raise UserError(
            f"{source}: {path}: '{value}' is named by its data, and none are given; lay a data file over the method, "
            "as in -opt apbsn.yml sidd.yml, or give your own a key data: NAME"
        )
    return value.replace(_DATA, data)


def _debugged(options: Options) -> Options:
    """Change ``options`` to those of a short run, with another name, that prints every iteration."""
    changes: dict[str, object] = {"name": f"debug_{options.name}"}
    changes["logger"] = options.logger.model_copy(update={"print_freq": 1, "save_checkpoint_freq": 8})
    if options.train is not None:
        changes["train"] = options.train.model_copy(update={"total_iter": min(options.train.total_iter, 16)})
    if options.val.val_freq is not None:
        changes["val"] = options.val.model_copy(update={"val_freq": 8})
    return options.model_copy(update=changes)
