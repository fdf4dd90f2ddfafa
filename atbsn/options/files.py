"""Where option files are: those that come with the package, and one's own."""

from pathlib import Path

from atbsn.utils.errors import UserError
from atbsn.utils.suggest import did_you_mean

_INSTALLED = Path(__file__).resolve().parent / "files"
_CHECKOUT = Path(__file__).resolve().parents[2] / "options"


def shipped_folder() -> Path:
    """The folder of the option files that come with the package: an installed one has a copy, a checkout has not."""
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def option_files() -> list[Path]:
    """The option files that come with the package."""
    return sorted(shipped_folder().rglob("*.yml"))


def find_option_file(name: str, shipped: Path | None = None) -> Path:
    """The option file ``name``: a path, also below ``shipped``, or a bare file name somewhere under ``options/``.

    Args:
        shipped: the folder of the option files that come with the package; those in ``options/`` here come first.

    Raises:
        UserError: there is none; it names the nearest.
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
    """The file that ``source`` names as its ``base``: a path from ``source``, or found as ``-opt`` finds it.

    What comes with the package is laid over what comes with it, whatever lies in ``options/`` here.

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
    """Option files below the folders by their bare names; a later folder's come first."""
    return {file.name: file for folder in folders if folder.is_dir() for file in sorted(folder.rglob("*.yml"))}
