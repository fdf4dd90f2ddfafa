"""Any folder of noisy pictures."""

from collections import Counter
from pathlib import Path

from atbsn.data.base import ImageSet
from atbsn.registry import DATASETS
from atbsn.utils.image import Picture, image_paths, picture_size, read_picture


@DATASETS.register
class NoisyFolder(ImageSet):
    """One noisy picture, or all of a folder and the folders below it, without references.

    Args:
        dataroot: a folder, searched recursively for PNG, JPEG, TIFF, BMP and WebP; or one such file.

    Raises:
        UserError: nothing there, or no picture in it.
    """

    def __init__(self, dataroot: str | Path) -> None:
        self.paths = image_paths(dataroot)
        root = Path(dataroot)
        self._keys = relative_keys(self.paths, root if root.is_dir() else root.parent)

    def __len__(self) -> int:
        return len(self.paths)

    def key(self, index: int) -> str:
        return self._keys[index]

    def read(self, index: int) -> Picture:
        return read_picture(self.paths[index])

    def size(self, index: int) -> tuple[int, int]:
        return picture_size(self.paths[index])


def relative_keys(paths: list[Path], root: Path) -> list[str]:
    """Unique keys: paths below ``root`` without extension; files that differ only in it keep it."""
    names = [path.relative_to(root) for path in paths]
    stems = [name.with_suffix("").as_posix() for name in names]
    count = Counter(stems)
    return [stem if count[stem] == 1 else name.as_posix() for name, stem in zip(names, stems, strict=True)]
