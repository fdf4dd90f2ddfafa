"""Find pairs of a noisy picture and its reference by the names of the files."""

import re
from pathlib import Path

from atbsn.data.folder import relative_keys
from atbsn.pictures import image_paths
from atbsn.utils.errors import UserError
from atbsn.utils.suggest import did_you_mean

Pair = tuple[str, Path, Path]
"""Key, noisy file, clean file."""

_FIELD = re.compile(r"\{([A-Za-z]\w*)\}")
"""A word of a template, such as ``{scene}``."""


def pairs_by_name(noisy_root: Path, clean_root: Path) -> list[Pair]:
    """Pair the files of two trees by their relative names: by the whole name first, then by the name without extension.

    Raises:
        UserError: a noisy picture has no reference of its own, or several that differ only in their extension.
    """
    noisy = image_paths(noisy_root)
    clean = _Files(clean_root)
    whole = {path: clean.by_name.get(path.relative_to(noisy_root).as_posix()) for path in noisy}
    taken = {reference: path for path, reference in whole.items() if reference is not None}
    pairs, missing = [], []
    for key, path in zip(relative_keys(noisy, noisy_root), noisy, strict=True):
        reference = whole[path] or clean.find(path.relative_to(noisy_root).with_suffix("").as_posix(), path)
        if reference is None:
            missing.append(path)
            continue
        if taken.setdefault(reference, path) != path:
            raise UserError(
                f"{path} and {taken[reference]} share a name, and there is one reference, {reference}; "
                "rename or remove one, or pair them by templates (noisy, clean)"
            )
        pairs.append((key, path, reference))
    if missing:
        raise _no_reference(missing, f"a file of the same name below {clean_root}")
    return pairs


def pairs_by_ending(root: Path) -> list[Pair]:
    """Pair files named ``*_real.*`` (noisy) and ``*_mean.*`` (reference), in any case. Other files are ignored.

    Raises:
        UserError: a noisy picture has no reference.
    """
    paths = image_paths(root)
    by_key = dict(zip((key.lower() for key in relative_keys(paths, root)), paths, strict=True))
    noisy = {key: path for key, path in by_key.items() if key.endswith("_real")}
    missing = [path for key, path in noisy.items() if f"{key.removesuffix('_real')}_mean" not in by_key]
    if missing:
        raise _no_reference(missing, "a file named *_mean beside it")
    return [
        (
            path.relative_to(root).with_suffix("").as_posix()[: -len("_real")],
            path,
            by_key[f"{key.removesuffix('_real')}_mean"],
        )
        for key, path in noisy.items()
    ]


def pairs_by_template(noisy_root: Path, clean_root: Path, noisy: str, clean: str) -> list[Pair]:
    """Pair files whose names follow two templates; see ``PairedFolder``.

    Raises:
        UserError: a template has no words or is malformed, no picture has such a name, or one has no reference, or
            several.
    """
    words = _FIELD.findall(noisy)
    for name, template in (("noisy", noisy), ("clean", clean)):
        if not _FIELD.search(template) or re.search(r"[{}]", _FIELD.sub("", template)):
            raise UserError(f"{name}: '{template}' is no template; write the part that differs as {{name}}")
    for word in _FIELD.findall(clean):
        if word not in words:
            raise UserError(f"clean: {{{word}}} is not in the noisy template '{noisy}'; {did_you_mean(word, words)}")
    paths, files = image_paths(noisy_root), _Files(clean_root)
    fits = re.compile(_pattern(noisy))
    pairs, missing = [], []
    for key, path in zip(relative_keys(paths, noisy_root), paths, strict=True):
        relative = path.relative_to(noisy_root)
        names = relative.with_suffix(""), relative
        texts = (name.as_posix() if "/" in noisy else name.name for name in names)
        found = next(filter(None, map(fits.fullmatch, texts)), None)
        if found is None:
            continue
        name = clean.format(**found.groupdict())
        if "/" not in clean and "/" not in noisy:
            name = (relative.parent / name).as_posix()
        reference = files.by_name.get(name) or files.find(name, path)
        if reference is None:
            missing.append((path, name))
        else:
            pairs.append((key, path, reference))
    references = {reference for _, _, reference in pairs}
    missing = [(path, name) for path, name in missing if path not in references]  # a template may fit references too
    if missing:
        raise _no_reference([path for path, _ in missing], f"{clean_root / missing[0][1]}")
    if not pairs:
        there = paths[0].relative_to(noisy_root)
        raise UserError(f"{noisy_root}: no picture has a name like '{noisy}'; there is {there}")
    return pairs


class _Files:
    """The pictures below ``root``, by path below it, with and without extension."""

    def __init__(self, root: Path) -> None:
        self.by_name: dict[str, Path] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for path in image_paths(root):
            relative = path.relative_to(root)
            self.by_name[relative.as_posix()] = path
            self._by_stem.setdefault(relative.with_suffix("").as_posix(), []).append(path)

    def find(self, stem: str, noisy: Path) -> Path | None:
        """Find the picture with this name without extension; raise a ``UserError`` if there are several."""
        found = self._by_stem.get(stem, [])
        if len(found) > 1:
            raise UserError(
                f"{noisy}: {found[0]} and {found[1].name} share a name, and either may be its reference; "
                "rename or remove one, or pair them by templates (noisy, clean)"
            )
        return found[0] if found else None


def _pattern(template: str) -> str:
    """Make the regular expression of a template. A word that stands in it twice matches the same text twice."""
    parts: list[str] = []
    known: set[str] = set()
    for place, part in enumerate(_FIELD.split(template)):
        if place % 2 == 0:
            parts.append(re.escape(part))
        else:
            parts.append(f"(?P={part})" if part in known else f"(?P<{part}>[^/]+)")
            known.add(part)
    return "".join(parts)


def _no_reference(missing: list[Path], needed: str) -> UserError:
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    return UserError(f"{missing[0]}{more}: no reference; it needs {needed}, or use NoisyFolder")
