"""Find option files: those that come with the package, and the user's own."""

from pathlib import Path

from atbsn.utils.errors import UserError
from atbsn.utils.suggest import did_you_mean

_INSTALLED = Path(__file__).resolve().parent / "files"
"""Folder of the option files in an installed package."""
_CHECKOUT = Path(__file__).resolve().parents[2] / "options"
"""Folder of the option files in a checkout."""


def shipped_folder() -> Path:
    """The folder of the option files that come with the package.

    An installed package has a copy of them; in a checkout they are in ``options/``.
    """
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def option_files() -> list[Path]:
    """The option files that come with the package."""
    return sorted(shipped_folder().rglob("*.yml"))


def find_option_file(name: str, shipped: Path | None = None) -> Path:
    """Find the option file ``name``: a path, also below ``shipped``, or a file name somewhere under ``options/``.

    Args:
        shipped: the folder of the option files that come with the package. Those in ``options/`` in the current folder
            come first.

    Raises:
        UserError: there is none; the message suggests the nearest name.
    """
    shipped = shipped or shipped_folder()
    path = Path(name.replace("\\", "/"))  # options\\train\\x.yml, as Windows writes it
    candidates = [Path(name), path]
    if path.parts[:1] == ("options",):
        candidates.append(shipped.joinpath(*path.parts[1:]))
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    available = _by_name(shipped, Path("options"))
    if name in available:
        return available[name]
    raise UserError(f"{name}: no such option file, here or under options/; {did_you_mean(path.name, available)}")


def find_base(name: str, source: Path) -> Path:
    """Find the file that ``source`` names as its ``base``: a path relative to ``source``, or a name as for ``-opt``.

    Files that come with the package find their base there, whatever lies in ``options/`` in the current folder.

    Raises:
        UserError: there is none.
    """
    beside = source.parent / name.replace("\\", "/")
    if beside.is_file():
        return beside
    shipped = shipped_folder()
    if source.resolve().is_relative_to(shipped):
        available = _by_name(shipped)
        if name in available:
            return available[name]
    try:
        return find_option_file(name, shipped)
    except UserError as error:
        raise UserError(f"{source}: base: {error}") from None


def _by_name(*folders: Path) -> dict[str, Path]:
    """List the option files below ``folders`` by their file names. Those of later folders replace earlier ones."""
    return {file.name: file for folder in folders if folder.is_dir() for file in sorted(folder.rglob("*.yml"))}
