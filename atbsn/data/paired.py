"""Noisy pictures with clean references, in the layouts people keep them in."""

from pathlib import Path
from typing import Any, Literal

from atbsn.data.base import ImageSet
from atbsn.data.folder import relative_keys, write_examples
from atbsn.pictures import Picture, image_paths, picture_size, read_picture
from atbsn.registry import DATASETS
from atbsn.utils.errors import UserError

_LAYOUTS = (
    "Noisy/ and GT/ (below each, train/ and valid/ if a split is asked for), or files named *_real.* and "
    "*_mean.* in one folder, or two folders, dataroot and dataroot_clean, with the same names in both"
)


class PairSet(ImageSet):
    """Pairs of files.

    Args:
        pairs: key, noisy file and clean file of each.
    """

    has_clean = True

    def __init__(self, pairs: list[tuple[str, Path, Path]]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def key(self, index: int) -> str:
        return self.pairs[index][0]

    def read(self, index: int) -> Picture:
        return read_picture(self.pairs[index][1])

    def read_clean(self, index: int) -> Picture:
        """Read the reference; a ``UserError`` if it is not of the noisy picture's size."""
        _, noisy_path, clean_path = self.pairs[index]
        clean, size = read_picture(clean_path), picture_size(noisy_path)
        if clean.rgb.shape[:2] != size:
            raise UserError(
                f"{clean_path}: {clean.rgb.shape[0]}x{clean.rgb.shape[1]} pixels, but the noisy picture "
                f"{noisy_path} has {size[0]}x{size[1]}; a pair must have one size"
            )
        return clean

    def size(self, index: int) -> tuple[int, int]:
        return picture_size(self.pairs[index][1])


@DATASETS.register
class PairedFolder(PairSet):
    """Noisy pictures with references, in one of three layouts, recognised in this order:

    - ``dataroot`` and ``dataroot_clean``: two folders, paired by relative name, whatever the extension;
    - ``dataroot/Noisy`` and ``dataroot/GT``, paired the same way; a split is a folder below both (AT-BSN's);
    - ``*_real.*`` and ``*_mean.*`` side by side (CC15, Nam et al., CVPR 2016).

    Args:
        dataroot: the folder of one of these layouts.
        dataroot_clean: the folder of references, if they are apart from the noisy pictures.
        split: only pictures below this folder of ``Noisy`` and ``GT``.

    Raises:
        UserError: no layout matches, or a noisy picture has no reference.
    """

    def __init__(
        self,
        dataroot: str | Path,
        dataroot_clean: str | Path | None = None,
        split: Literal["train", "valid"] | None = None,
    ) -> None:
        root = Path(dataroot)
        noisy_tree, clean_tree = root / "Noisy", root / "GT"
        if dataroot_clean is not None:
            noisy_tree, clean_tree = root, Path(dataroot_clean)
        if dataroot_clean is not None or (noisy_tree.is_dir() and clean_tree.is_dir()):
            super().__init__(pairs_by_name(noisy_tree / (split or ""), clean_tree / (split or "")))
            return
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; check the path")
        pairs = pairs_by_ending(root) if split is None else []
        if not pairs:
            names = sorted(path.name for path in root.iterdir())
            found = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
            raise UserError(f"{root}: no pairs in it; it needs {_LAYOUTS}; found: {found or 'nothing'}")
        super().__init__(pairs)

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        write_examples(folder, "Noisy/one", "Noisy/two", "GT/one", "GT/two")
        return {"dataroot": str(folder)}


def pairs_by_name(noisy_root: Path, clean_root: Path) -> list[tuple[str, Path, Path]]:
    """Pairs of two trees with the same relative names."""
    noisy_paths, clean_paths = image_paths(noisy_root), image_paths(clean_root)
    clean = dict(zip(relative_keys(clean_paths, clean_root), clean_paths, strict=True))
    keys = relative_keys(noisy_paths, noisy_root)
    missing = [path for key, path in zip(keys, noisy_paths, strict=True) if key not in clean]
    if missing:
        raise _no_reference(missing, f"a file of the same name below {clean_root}")
    return [(key, path, clean[key]) for key, path in zip(keys, noisy_paths, strict=True)]


def pairs_by_ending(root: Path) -> list[tuple[str, Path, Path]]:
    """Pairs named ``*_real.*`` (noisy) and ``*_mean.*`` (reference), in any case; other files are ignored."""
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


def _no_reference(missing: list[Path], needed: str) -> UserError:
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    return UserError(f"{missing[0]}{more}: no reference; it needs {needed}, or use NoisyFolder")
