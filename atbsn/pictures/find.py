"""Find pictures below folders, and give the reason for every file that is not used."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from atbsn.pictures import formats
from atbsn.utils.errors import UserError

_VIDEO = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".mts", ".webm", ".3gp"}
"""Suffixes of videos."""
_SIDE = {".xmp", ".aae", ".thm", ".pp3", ".dop", ".cos", ".lrv"}
"""Suffixes of files that programs and cameras write beside a picture."""
_OTHER = {
    ".gif", ".psd", ".psb", ".jp2", ".j2k", ".jxl", ".exr", ".hdr", ".svg", ".pdf", ".tga", ".ico", ".x3f", ".3fr",
    ".iiq", ".crw", ".erf", ".mrw", ".rwl", ".srf", ".gpr", ".xcf", ".mpo", ".apng", ".jxr",
}  # fmt: skip
"""Suffixes of picture formats that are not read. Those of the formats that are read are looked at first."""
_SPECIAL = "not a regular file"
_UNKNOWN = "not a picture by its name"
_INSTALL = 'needs more libraries; pip install "atbsn[photos]"'
"""Reasons why a file is not used."""

Roots = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A file or folder, or several."""


class Item(NamedTuple):
    """A file or folder that was found.

    Attributes:
        path: as found.
        name: the path below the folder that was searched; of a single file, its name.
        reason: why it is not used; None: it is a picture.
    """

    path: Path
    name: Path
    reason: str | None = None


class Found(NamedTuple):
    """Pictures to use, in order, and the files that are not used.

    Attributes:
        paths: paths of the pictures.
        names: for each of ``paths``, the path below the folder that was searched, or the file's name.
        skipped: (path, reason) of everything else.
    """

    paths: list[Path]
    names: list[Path]
    skipped: list[tuple[Path, str]]

    def summary(self) -> str:
        """One line: ``using 17, skipped 6: a.gif and 3 more (GIF is not read; ...), ...``, the largest groups first."""
        if not self.skipped:
            return f"using {len(self.paths)}"
        first: dict[str, str] = {}
        for path, reason in self.skipped:
            first.setdefault(reason, path.name or str(path))
        groups = [
            f"{first[reason]}{f' and {number - 1} more' if number > 1 else ''} ({reason})"
            for reason, number in Counter(reason for _, reason in self.skipped).most_common()
        ]
        return f"using {len(self.paths)}, skipped {len(self.skipped)}: {', '.join(groups)}"


def find_pictures(roots: Roots) -> Found:
    """Find all pictures among the files and below the folders ``roots``, each once.

    Files are not opened; their names decide. Pictures are in the order of ``roots``, and within a folder in the order
    of their names. It raises nothing: a root that does not exist is among the skipped.
    """
    found, seen = Found([], [], []), set[Path]()
    for root in [roots] if isinstance(roots, str | os.PathLike) else roots:
        for path, name, reason in walk_pictures(root):
            if reason is None and (place := path.resolve()) in seen:
                reason = "given twice"
            if reason is None:
                seen.add(place)
                found.paths.append(path)
                found.names.append(name)
            else:
                found.skipped.append((path, reason))
    return found


def walk_pictures(
    root: str | os.PathLike[str], in_order: bool = True, leave_out: Callable[[Path], bool] | None = None
) -> Iterator[Item]:
    """Yield every file of ``root`` (a file, or a folder with all folders below it), and folders that are not entered.

    The order is that of the names below ``root``, written with ``/``. Links to files are followed, links to folders are
    not. One folder at a time is in memory.

    Args:
        root: a file or folder.
        in_order: False: in the order of the system. Then no list of a folder is in memory, however large it is.
        leave_out: returns whether a folder below ``root`` is one of results, which is not entered.
    """
    root = Path(root)
    if root.is_dir():
        yield from _walk(root, root, in_order, leave_out)
    elif root.is_file():
        yield Item(root, Path(root.name), _reason(root))
    elif root.exists():
        yield Item(root, Path(root.name), _SPECIAL)
    else:
        yield Item(root, Path(root.name), "no such file or folder")


def image_paths(root: str | os.PathLike[str]) -> list[Path]:
    """The picture ``root`` itself, or all pictures below the folder ``root``, sorted, without hidden files and folders.

    Files that need a library that is not installed are included: reading them raises an error with the remedy.

    Raises:
        UserError: ``root`` does not exist or has no picture, or a folder cannot be listed.
    """
    root = Path(root)
    if not root.exists():
        raise UserError(f"{root}: no such file or folder; check the path")
    paths = []
    for path, _, reason in walk_pictures(root):
        if reason is None or reason == _INSTALL:
            paths.append(path)
        elif reason.startswith("cannot be listed"):
            raise UserError(f"{path}: {reason}")
    if not paths and not root.is_dir():
        raise UserError(f"{root}: not a {formats.KINDS} file by its name; convert it first")
    if not paths:
        raise UserError(f"{root}: no picture in this folder or below; it needs {formats.KINDS} files")
    return paths


def is_file_name(path: Path) -> bool:
    """Whether a name has the suffix of a known kind of file, and so does not name a folder."""
    return _reason(path) != _UNKNOWN


def _walk(folder: Path, root: Path, in_order: bool, leave_out: Callable[[Path], bool] | None) -> Iterator[Item]:
    try:
        with os.scandir(folder) as entries:
            found: Iterable[tuple[str, bool, bool]] = (
                (entry.name + "/" * entry.is_dir(), entry.is_symlink(), entry.is_file()) for entry in entries
            )
            for name, linked, regular in sorted(found) if in_order else found:
                path = folder / name
                is_folder = name.endswith("/")
                reason: str | None = None
                if name.startswith("."):
                    reason = "hidden"
                elif is_folder and linked:
                    reason = "a linked folder; give it by its own name to use it"
                elif is_folder and leave_out is not None and leave_out(path):
                    reason = "a folder of results; give it by its own name to use it"
                elif not is_folder:
                    reason = _reason(path, regular or (linked and not path.exists()))
                if is_folder and reason is None:
                    yield from _walk(path, root, in_order, leave_out)
                else:
                    yield Item(path, path.relative_to(root), reason)
    except OSError as error:
        refusal = f"cannot be listed ({error.strerror or error}); check its permissions"
        yield Item(folder, folder.relative_to(root), refusal)


def _reason(path: Path, regular: bool = True) -> str | None:
    """Why a file is not used, by its name; None for a picture. A broken link counts as one: reading it reports that."""
    suffix = path.suffix.lower()
    if suffix in formats.SUFFIXES:
        if not regular:
            return _SPECIAL
        return _INSTALL if formats.is_missing(suffix) else None
    if suffix in _VIDEO:
        return "a video"
    if suffix in _SIDE:
        return "a side file of a picture"
    if suffix in _OTHER:
        return f"{suffix[1:].upper()} is not read; save it as TIFF, PNG or JPEG"
    return _UNKNOWN
