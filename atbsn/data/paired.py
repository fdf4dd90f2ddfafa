"""Data sets of noisy pictures with clean references, in the layouts that are common for them."""

from pathlib import Path
from typing import Any, Literal

from atbsn.data.base import ImageSet, White
from atbsn.data.folder import write_examples
from atbsn.data.pairing import pairs_by_ending, pairs_by_name, pairs_by_template
from atbsn.pictures import Picture, picture_size, read_picture
from atbsn.registry import DATASETS
from atbsn.utils.errors import UserError

_MAX_LISTED = 6
"""Most names in a folder that a message lists. Chosen by hand."""
_LAYOUTS = (
    "Noisy/ and GT/ (below each, train/ and valid/ if a split is asked for), or files named *_real.* and "
    "*_mean.* in one folder, or two folders, dataroot and dataroot_clean, with the same names in both, or templates of "
    "the names, noisy and clean"
)


class PairSet(ImageSet):
    """Pairs of files.

    Args:
        pairs: key, noisy file and clean file of each.
        white: as for ``read_picture``, for both files.
    """

    has_clean = True

    def __init__(self, pairs: list[tuple[str, Path, Path]], white: White = "auto") -> None:
        self.pairs, self.white = pairs, white

    def __len__(self) -> int:
        return len(self.pairs)

    def key(self, index: int) -> str:
        return self.pairs[index][0]

    def read(self, index: int) -> Picture:
        return read_picture(self.pairs[index][1], white=self.white)

    def read_clean(self, index: int) -> Picture:
        """Read the reference; raise a ``UserError`` if it has another size than the noisy picture."""
        _, noisy_path, clean_path = self.pairs[index]
        clean, size = read_picture(clean_path, white=self.white), picture_size(noisy_path)
        if clean.rgb.shape[:2] != size:
            raise UserError(
                f"{clean_path}: {clean.rgb.shape[0]}x{clean.rgb.shape[1]} pixels, but the noisy picture "
                f"{noisy_path} has {size[0]}x{size[1]}; a pair must have one size"
            )
        return clean

    def size(self, index: int) -> tuple[int, int]:
        return picture_size(self.pairs[index][1])

    def clean_size(self, index: int) -> tuple[int, int]:
        return picture_size(self.pairs[index][2])


@DATASETS.register
class PairedFolder(PairSet):
    """Noisy pictures with references, in one of four layouts, which are tried in this order:

    - names by template, if ``noisy`` and ``clean`` are given: ``noisy: "{scene}_NOISY_{n}"`` and
      ``clean: "{scene}_GT_{n}"``; ``noisy: "{scene}/shot_{n}.png"`` and ``clean: "{scene}/mean.tif"``;
    - ``dataroot`` and ``dataroot_clean``: two folders, paired by relative name, whatever the extension;
    - ``dataroot/Noisy`` and ``dataroot/GT``, paired in the same way; a split is a folder below both (AT-BSN's);
    - ``*_real.*`` and ``*_mean.*`` side by side (CC15, Nam et al., CVPR 2016).

    Args:
        dataroot: the folder of one of these layouts.
        dataroot_clean: the folder of the references, if they are in a folder of their own.
        split: take only pictures below this folder of ``Noisy`` and ``GT``.
        noisy: template of the noisy pictures' names; other files are ignored. A ``{word}`` stands for any text without
            a ``/``. A template with a ``/`` is a path below ``dataroot``, one without is a name in any folder. The
            extension may be left out.
        clean: template of the references' names, with the same words or fewer.
        white: the value of white in noisy and clean files of 16 bits or floating point, such as 1023 for 10 bits in 16.
            ``auto``: 65535 for 16 bits; for floating point 1, or the largest value of the picture if that is larger.

    Raises:
        UserError: no layout matches, or a noisy picture has no reference, or more than one.
    """

    def __init__(
        self,
        dataroot: str | Path,
        dataroot_clean: str | Path | None = None,
        split: Literal["train", "valid"] | None = None,
        noisy: str | None = None,
        clean: str | None = None,
        white: White = "auto",
    ) -> None:
        root = Path(dataroot)
        if noisy is not None or clean is not None:
            if noisy is None or clean is None or split is not None:
                raise UserError("noisy, clean: two templates belong together, and to no split; give both or none")
            super().__init__(pairs_by_template(root, Path(dataroot_clean or dataroot), noisy, clean), white)
            return
        noisy_tree, clean_tree = root / "Noisy", root / "GT"
        if dataroot_clean is not None:
            noisy_tree, clean_tree = root, Path(dataroot_clean)
        if dataroot_clean is not None or (noisy_tree.is_dir() and clean_tree.is_dir()):
            super().__init__(pairs_by_name(noisy_tree / (split or ""), clean_tree / (split or "")), white)
            return
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; check the path")
        pairs = pairs_by_ending(root) if split is None else []
        if not pairs:
            names = sorted(path.name for path in root.iterdir())
            more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
            found = ", ".join(names[:_MAX_LISTED]) + more
            raise UserError(f"{root}: no pairs in it; it needs {_LAYOUTS}; found: {found or 'nothing'}")
        super().__init__(pairs, white)

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        write_examples(folder, "Noisy/one", "Noisy/two", "GT/one", "GT/two")
        return {"dataroot": str(folder)}
