"""Floor 1: option files to checked, typed options. See ``load``, ``schema`` and ``check``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from atbsn.options.check import check_options
from atbsn.options.load import apply_override, find_option_file, merge, read_options
from atbsn.options.schema import Options
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger

__all__ = ["Options", "load_options", "option_files"]

_INSTALLED = Path(__file__).resolve().parent / "files"
_CHECKOUT = Path(__file__).resolve().parents[2] / "options"


def option_files() -> list[Path]:
    """The option files that come with the package."""
    return sorted(_shipped().rglob("*.yml"))


def _shipped() -> Path:
    """Their folder: an installed package has a copy within, which a checkout has not."""
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def load_options(name: str, overrides: Sequence[str] = (), debug: bool = False, needs_network: bool = True) -> Options:
    """Read, merge and check the option file ``name`` (a path, or one found under ``options/``).

    Args:
        overrides: ``a.b=value`` assignments laid over the file.
        needs_network: whether the file must name a network, or weights that know theirs.
        debug: a short run that prints every iteration, under the name ``debug_<name>``.

    Raises:
        UserError: all faults at once.
    """
    path = find_option_file(name, _shipped())
    raw = _for_device(read_options(path), overrides, str(path))
    options = check_options(raw, str(path), needs_network)
    return _debugged(options) if debug else options


def _for_device(raw: dict[str, Any], overrides: Sequence[str], source: str) -> dict[str, Any]:
    """``raw`` with its ``on_cpu`` laid over it where there is no GPU, and ``overrides`` over both."""
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


def _debugged(options: Options) -> Options:
    changes: dict[str, object] = {"name": f"debug_{options.name}"}
    changes["logger"] = options.logger.model_copy(update={"print_freq": 1, "save_checkpoint_freq": 8})
    if options.train is not None:
        changes["train"] = options.train.model_copy(update={"total_iter": min(options.train.total_iter, 16)})
    if options.val.val_freq is not None:
        changes["val"] = options.val.model_copy(update={"val_freq": 8})
    return options.model_copy(update=changes)
