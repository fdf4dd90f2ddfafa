"""Weights that come with the package, found by name: ``real`` is ``atbsn/weights/real.safetensors``."""

import re
from pathlib import Path

from atbsn.archs.hub import fetch_from_hub, is_hub_name
from atbsn.options import option_files
from atbsn.utils.errors import UserError

FOLDER = Path(__file__).resolve().parents[1] / "weights"
"""The folder of the shipped weights, ``<name>.safetensors``, and their model cards, ``<name>.md``."""

_RUN_NAME = re.compile(r"^name:\s*['\"]?([^\s'\"#]+)", re.MULTILINE)
"""The name of a run in an option file."""
_MAX_LISTED = 5
"""Most files of a folder, the last ones, that a message names. Chosen by hand."""


def shipped_weights() -> dict[str, Path]:
    """The shipped weight files by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}


def find_weights(name: str | Path) -> Path:
    """Find the weight file ``name``: a path, shipped weights, or weights on the hub (``hf:owner/name@revision``).

    A file with this name in the current folder comes first.

    Raises:
        UserError: there is no such file. The message says which files there are, or which command makes it.
    """
    path = Path(name)
    if path.is_file():
        return path
    if is_hub_name(name):
        return fetch_from_hub(name)
    if len(path.parts) == 1 and not path.suffix:
        known = shipped_weights()
        if path.name in known:
            return known[path.name]
        names = ", ".join(known) or "none"
        raise UserError(f"{path}: no weights of this name; shipped are: {names}. The path of a weight file works too")
    if path.is_dir():
        raise UserError(f"{path}: a folder, not a weight file; {_there(path)}")
    raise UserError(f"{path}: no such weight file; {_remedy(path)}")


def _remedy(path: Path) -> str:
    """Say what to do about weights that do not exist."""
    if path.parent.is_dir():
        return _there(path.parent)
    if path.parent.name == "models":  # experiments/<name>/models: a training that has not been run here
        run = path.parent.parent.name
        if files := _trained_by(run):
            return f"atbsn train -opt {' '.join(files)} makes it"
    return f"check the path, or name shipped weights ({', '.join(shipped_weights()) or 'none'})"


def _trained_by(run: str) -> list[str]:
    """Find the shipped option files of the training ``run``: one file, or that of a method and that of its data."""
    files = option_files()
    names = {file.name: found[1] for file in files if (found := _RUN_NAME.search(file.read_text(encoding="utf-8")))}
    for file, name in names.items():
        if name == run:
            return [file]
    for data in files:
        for file, name in names.items():
            if data.parent.name == "data" and name.replace("{data}", data.stem) == run:
                return [file, data.name]
    return []


def _there(folder: Path) -> str:
    """Say which weights are in ``folder``."""
    files = sorted(path.name for path in folder.iterdir() if path.suffix in (".pth", ".safetensors"))
    if not files:
        return f"no weights are in {folder}; name another file"
    more = f" and {len(files) - _MAX_LISTED} more" if len(files) > _MAX_LISTED else ""
    return f"{folder} has {', '.join(files[-_MAX_LISTED:])}{more}"
