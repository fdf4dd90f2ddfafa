"""Finds the mask of each picture."""

from functools import cache
from pathlib import Path

from atbsn.pictures import formats
from atbsn.utils.errors import UserError


class Masks:
    """One mask for all pictures, or a folder with one mask for each picture.

    In the folder, the mask of ``trip/a.jpg`` is ``trip/a.png``, or ``trip/a`` with the suffix of another format.

    Args:
        path: a picture file, or a folder.

    Raises:
        UserError: there is no such file or folder.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise UserError(f"--mask {path}: no such file or folder; check the path")
        self.path = path
        self._is_folder = path.is_dir()
        self._place = path.resolve()
        self._listed = cache(_by_stem)

    def __contains__(self, file: Path) -> bool:
        """Whether ``file`` is one of the masks, and so is not to be denoised."""
        place = file.resolve()
        return place == self._place or self._place in place.parents

    def of(self, name: Path) -> Path:
        """The file of the mask of a picture.

        Args:
            name: the picture's path below the folder that was searched, or the name of a single file.

        Raises:
            UserError: there is no mask, or more than one.
        """
        if not self._is_folder:
            return self.path
        folder = self.path / name.parent
        found = self._listed(folder).get(name.stem, [])
        if not found:
            raise UserError(f"no mask of its name in {folder}; give it one, all white to denoise all of it")
        if len(found) > 1:
            raise UserError(f"{' and '.join(str(path) for path in found)}: one mask is needed; remove the others")
        return found[0]


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    """The picture files of a folder, by their names without suffix."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix.lower() in formats.SUFFIXES:
            found.setdefault(path.stem, []).append(path)
    return found
