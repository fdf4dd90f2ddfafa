"""Training states: files that a run continues from. Nothing in them is executed, and their content is checked."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from reprlib import repr as shorten
from typing import Any, NamedTuple

import torch

from atbsn.registry import ARCHS
from atbsn.registry.build import with_defaults
from atbsn.utils import dist
from atbsn.utils.errors import UserError, in_a_phrase
from atbsn.utils.files import cannot_write, read_tensors, write_atomically
from atbsn.utils.log import logger

STATE = re.compile(r"(\d+)\.state")
"""Names of training states."""
_LAYOUT: dict[str, type | tuple[type, ...]] = {
    "iteration": int,
    "reported": bool,
    "seed": int,
    "settings": str,
    "params": dict,
    "ema": (dict, type(None)),
    "optimizer": dict,
    "scaler": dict,
    "best_score": (float, type(None)),
    "processes": list,
}
"""The entries of a training state and their types."""
_LEARNT_WITH = re.compile(r"network|model\.type|model\..*sha256$|train\.optim\.type|manual_seed")
"""Settings that must not change when a training is resumed. With another network or optimizer, the content of a state
has no meaning; and helpers such as a teacher, whose checksums are stored, must be the same ones."""


class State(NamedTuple):
    """The content of a training state, and the file that it was read from."""

    path: Path
    content: dict[str, Any]

    def total_iter(self) -> int:
        """The number of iterations of the training that the state belongs to.

        Raises:
            UserError: the state does not say it.
        """
        try:
            return int(json.loads(self.content["settings"])["train"]["total_iter"])
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{self.path}: does not tell how long its training is; set train.total_iter") from None


class _WeightsError(Exception):
    """A weight file was given instead of a training state."""


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state: tensors, numbers and strings in lists and dictionaries."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def load_state(path: Path) -> State:
    """Read a training state; nothing in it is executed.

    Raises:
        UserError: the file is missing, damaged, or not a training state.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such training state; check path.resume_state")
    try:
        content = read_tensors(path)
        if not isinstance(content, dict):
            raise TypeError(f"holds a {type(content).__name__}, not a dictionary")
        if not content.keys() & {"settings", "optimizer"}:
            raise _WeightsError("holds weights, not a training state")
        json.loads(content["settings"])
        wrong = [key for key, kind in _LAYOUT.items() if not isinstance(content[key], kind)]
        if wrong or content["iteration"] < 0:
            raise ValueError(f"its {wrong[0] if wrong else 'iteration'} cannot be")
    except _WeightsError as error:
        raise UserError(
            f"{path}: {error}; name a file of training_states/, or start anew from it: path.pretrain_network={path}"
        ) from None
    except Exception as error:  # a damaged file can fail anywhere in the reader, with any exception
        raise UserError(
            f"{path}: not a readable training state ({in_a_phrase(error)}); resume from another one"
        ) from None
    return State(path, content)


def newest_state(folder: Path) -> State | None:
    """The newest readable state in ``folder``, or None if there is none. Damaged states are skipped with a warning.

    Raises:
        UserError: there are states, but none can be read. Starting anew would lose the training.
    """
    paths = [path for _, path in sorted(numbered(folder, STATE), reverse=True)]
    for path in paths:
        try:
            return load_state(path)
        except UserError as error:
            logger.warning("skipped: %s", error)
    if paths:
        raise UserError(
            f"{folder}: none of the {len(paths)} training states can be read; mend the disk, or train anew by leaving "
            "--auto_resume out"
        )
    return None


def compare_settings(state: State, settings: dict[str, Any]) -> None:
    """Log the settings that differ between a resumed run and the run that it continues.

    An argument of the network that did not exist when the state was written counts as its default.

    Raises:
        UserError: settings differ that must not change.
    """
    written = json.loads(state.content["settings"])
    differences = list(_differences(_completed(written), _completed(settings)))
    averages = (state.content["ema"] is not None, bool(settings["train"]["ema_decay"]))
    model = written.get("model") if isinstance(written, dict) else None
    if isinstance(model, dict) and "frozen_sha256" not in model:  # a state of an early development version
        differences = [(path, text) for path, text in differences if path != "model.frozen_sha256"]
    fatal = [text for path, text in differences if _LEARNT_WITH.match(path)]
    fatal += [text for path, text in differences if path == "train.ema_decay" and averages[0] != averages[1]]
    if fatal:
        raise UserError(
            f"{state.path}: made with other options: {'; '.join(fatal)}; resume with its own, or train anew under "
            "another name (--set name=...)"
        )
    if differences and dist.is_main():
        changes = "; ".join(text for _, text in differences)
        logger.warning("other options than until iteration %d: %s", state.content["iteration"], changes)


def set_aside(states: Path, iteration: int) -> None:
    """Rename states after ``iteration`` (damaged or given up), so that they are not taken for states of this run."""
    for number, path in numbered(states, STATE):
        if number > iteration:
            try:
                target = path.replace(path.with_name(f"{path.name}.set_aside"))
            except OSError as error:
                raise cannot_write(path, error) from error
            logger.warning("%s: beyond iteration %d, which is continued from; renamed %s", path, iteration, target.name)


def numbered(folder: Path, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
    """The files in ``folder`` whose names match ``pattern``, each with the number in its name."""
    matches = ((pattern.fullmatch(path.name), path) for path in folder.glob("*"))
    return [(int(match[1]), path) for match, path in matches if match]


def _completed(settings: Any) -> Any:
    """``settings`` with the defaults of the network's arguments filled in, if the network is registered."""
    network = settings.get("network") if isinstance(settings, dict) else None
    if not isinstance(network, dict) or str(network.get("type")) not in ARCHS:
        return settings
    return {**settings, "network": json.loads(json.dumps(with_defaults(ARCHS.get(str(network["type"])), network)))}


def _differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the differences of two nested dictionaries: the path of each, and a phrase about it."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*map(str, old), *new}):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield path, f"{path} is {shorten(new)}, was {shorten(old)}"
