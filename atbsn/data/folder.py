"""Data sets of the noisy pictures in a folder."""

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np

from atbsn.data.base import ImageSet, MemoryShortError, White, as_rgb, picture_of
from atbsn.data.store.lmdb import LmdbReader
from atbsn.pictures import Found, Picture, find_pictures, image_paths, picture_size, read_picture, write_picture
from atbsn.registry import DATASETS
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger

IoBackend = Literal["disk", "lmdb"]
"""Whether a set is in picture files, or in the LMDB that ``atbsn prepare`` made of them."""


class StoredSet(ImageSet):
    """Noisy pictures without references, in files or in an LMDB.

    Args:
        dataroot: the folder of the files, or that of the LMDB.
        io_backend: ``disk`` for files, ``lmdb`` for an LMDB.
        find: lists the files in ``dataroot``; not called for an LMDB.
        white: as for ``read_picture``; not for an LMDB.
    """

    def __init__(
        self,
        dataroot: str | Path,
        io_backend: IoBackend,
        find: Callable[[Path], list[Path]],
        white: White = "auto",
    ) -> None:
        if io_backend == "lmdb" and white != "auto":
            raise UserError(f"white: {white}: an LMDB holds what was prepared; leave white out")
        self.white = white
        root = Path(dataroot)
        self._store = LmdbReader(root) if io_backend == "lmdb" else None
        if self._store is not None:
            self.paths: list[Path] = []
            self._keys = [patch.key for patch in self._store.manifest.patches]
        elif (root / "data.mdb").is_file():
            raise UserError(f"{root}: an LMDB; set io_backend: lmdb")
        else:
            self.paths = find(root)
            self._keys = relative_keys(self.paths, root if root.is_dir() else root.parent)

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        return self._keys[index]

    def source(self, index: int) -> Path | None:
        return self.paths[index] if self._store is None else None

    def read(self, index: int) -> Picture:
        if self._store is None:
            return read_picture(self.paths[index], white=self.white)
        return picture_of(self._store.read(index))

    def samples(self, index: int) -> np.ndarray:
        return super().samples(index) if self._store is None else self._store.read(index)

    def size(self, index: int) -> tuple[int, int]:
        if self._store is None:
            return picture_size(self.paths[index])
        patch = self._store.manifest.patches[index]
        return patch.height, patch.width

    def preload(self) -> None:
        if self._store is None:
            super().preload()

    def crop(self, index: int, top: int, left: int, size: int) -> np.ndarray:
        if self._store is None:
            return super().crop(index, top, left, size)
        return as_rgb(self._store.crop(index, top, left, size))

    def depth(self) -> np.dtype:
        return super().depth() if self._store is None else self._store.manifest.depth

    def channels(self) -> frozenset[int]:
        return super().channels() if self._store is None else self._store.manifest.channels


@DATASETS.register
class NoisyFolder(StoredSet):
    """One noisy picture, or all pictures in a folder and the folders below it, without references.

    Args:
        dataroot: a folder, searched recursively for PNG, JPEG, TIFF, BMP and WebP; or one such file; or an LMDB.
        io_backend: ``lmdb`` if ``dataroot`` is one that ``atbsn prepare`` made.
        white: the value of white in all files of 16 bits or floating point, such as 1023 for 10 bits in 16. ``auto``:
            65535 for 16 bits; for floating point 1, or the largest value of the picture if that is larger.

    Raises:
        UserError: there is no such file or folder, or no picture in it.
    """

    def __init__(self, dataroot: str | Path, io_backend: IoBackend = "disk", white: White = "auto") -> None:
        super().__init__(dataroot, io_backend, image_paths, white)
        self._passed_over = _passed_over(Path(dataroot), self.paths) if io_backend == "disk" else []
        if self._passed_over:
            logger.warning("%s: %s", dataroot, Found(self.paths, [], self._passed_over).summary())

    def keep_usable(self, min_side: int) -> None:
        if self._store is not None or self._decoded is not None:
            return
        skipped = self._drop_failing(lambda index: self.size(index))
        if any(min(self.size(index)) >= min_side for index in range(len(self))):
            skipped += self._drop_failing(lambda index: self._check_size(index, min_side))
        memory = self._memory()
        decoded: dict[Path, np.ndarray] = {}

        def decode(index: int) -> None:
            decoded[self.paths[index]] = memory.hold(self.samples(index))

        skipped += self._drop_failing(decode)
        said = Found(self.paths, [], skipped).summary()
        if not self.paths:
            raise UserError(f"no picture can be read; {said}; give others")
        if skipped:
            logger.warning("%s", said)
        self._decoded = [decoded[path] for path in self.paths]

    def _check_size(self, index: int, min_side: int) -> None:
        height, width = self.size(index)
        if min(height, width) < min_side:
            raise UserError(f"{height}x{width} pixels, smaller than the {min_side}x{min_side} patch")

    def _drop_failing(self, function: Callable[[int], object]) -> list[tuple[Path, str]]:
        """Leave out the pictures for which ``function`` raises a ``UserError``, and return them with the reasons."""

        def fault(index: int) -> str | None:
            try:
                function(index)
            except MemoryShortError:
                raise
            except UserError as error:
                return str(error).removeprefix(f"{self.paths[index]}: ")
            return None

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            faults = list(pool.map(fault, range(len(self))))
        failing = [(path, fault) for path, fault in zip(self.paths, faults, strict=True) if fault is not None]
        kept = [index for index, fault in enumerate(faults) if fault is None]
        self.paths, self._keys = [self.paths[index] for index in kept], [self._keys[index] for index in kept]
        return failing

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        write_examples(folder, "one", "below/two")
        return {"dataroot": str(folder)}


def _passed_over(root: Path, used: list[Path]) -> list[tuple[Path, str]]:
    """List the files in ``root`` that are not used, with the reason; without hidden files."""
    taken = set(used)
    return [(path, reason) for path, reason in find_pictures(root).skipped if reason != "hidden" and path not in taken]


def write_examples(folder: Path, *names: str) -> None:
    """Write small pictures of noise, all different, for the tests of all data sets."""
    rng = np.random.default_rng(0)
    for name in names:
        write_picture(folder / f"{name}.png", Picture(rng.integers(0, 256, (40, 52, 3), np.uint8)))


def relative_keys(paths: list[Path], root: Path) -> list[str]:
    """Make unique keys of ``paths``: relative to ``root``, without extension unless two files differ only in that."""
    names = [path.relative_to(root) for path in paths]
    stems = [name.with_suffix("").as_posix() for name in names]
    count = Counter(stems)
    return [stem if count[stem] == 1 else name.as_posix() for name, stem in zip(names, stems, strict=True)]
