"""Submissions to the benchmarks whose references only a server has; each file is read back and checked."""

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.io

from atbsn.data.base import ImageSet
from atbsn.data.mat import read_v5
from atbsn.data.sidd import BlockSet
from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_atomically
from atbsn.utils.log import logger, progress_bar

_ROUND = 32
"""Blocks that each process sends at a time, so that no process holds many blocks of others. Chosen by hand."""


class Submission(ABC):
    """Collects the denoised pictures of all processes, in any order and from any thread; the main process writes them.

    Args:
        images: the set that is denoised.
        folder: folder of the files. All processes must see the same one.
    """

    def __init__(self, images: ImageSet, folder: Path) -> None:
        self.images, self.folder = images, folder

    @abstractmethod
    def add(self, index: int, rgb: np.ndarray) -> None:
        """Add the denoised picture ``index``, (H, W, 3) RGB, clipped to [0, 255], of the dtype of the noisy one."""

    @abstractmethod
    def finish(self) -> None:
        """Write the files and read them back. Every process has to call it after all pictures are added.

        Raises:
            UserError: a picture is missing, or a file does not read back as it was written.
        """


class SIDDSubmission(Submission):
    """``SubmitSrgb.csv`` for Kaggle, and ``SubmitSrgb.mat`` for the older server."""

    def __init__(self, images: ImageSet, folder: Path) -> None:
        super().__init__(images, folder)
        assert isinstance(images, BlockSet), "SIDD's benchmark is a set of blocks"
        self._shape = images.shape
        self._blocks: dict[int, np.ndarray] = {}

    def add(self, index: int, rgb: np.ndarray) -> None:
        self._blocks[index] = rgb

    def finish(self) -> None:
        blocks = self._gather()
        dist.on_main(lambda: self._write(blocks))

    def _write(self, blocks: np.ndarray) -> None:
        csv, mat = self.folder / "SubmitSrgb.csv", self.folder / "SubmitSrgb.mat"
        write_atomically(csv, lambda file: _write_csv(file, blocks))
        write_atomically(mat, lambda file: scipy.io.savemat(file, {"DenoisedBlocksSrgb": blocks}))
        _check(csv, _csv_equals(csv, blocks))
        _check(mat, _equals(read_v5(mat, "DenoisedBlocksSrgb"), blocks))
        logger.info(
            "%s: %d blocks, read back and found right. Upload it to SIDD's sRGB competitions on Kaggle, linked from "
            "https://abdokamel.github.io/sidd/. %s has the same as DenoisedBlocksSrgb, for the older server",
            csv, len(self.images), mat,
        )  # fmt: skip

    def _gather(self) -> np.ndarray:
        """All blocks on the main process; (images, blocks, H, W, 3) uint8."""
        blocks = np.zeros(self._shape if dist.is_main() else 0, np.uint8)
        arrived = 0
        own = list(self._blocks)
        for start in range(0, -(-len(self.images) // dist.world_size()), _ROUND):
            parts = dist.gather({index: self._blocks.pop(index) for index in own[start : start + _ROUND]})
            arrived += sum(map(len, parts))
            for part in parts if dist.is_main() else ():
                for index, block in part.items():
                    blocks[divmod(index, self._shape[1])] = block
        if arrived < len(self.images):
            raise UserError(
                f"{self.folder}: only {arrived} of {len(self.images)} blocks are there; denoise all of them"
            )
        return blocks


class DNDSubmission(Submission):
    """One ``0001_01.mat`` for each box, and for the server ``bundled/0001.mat`` with all boxes of an image.

    Values are float32 in [0, 1]: clipped, not rounded.
    """

    def add(self, index: int, rgb: np.ndarray) -> None:
        crop = (rgb / 255).astype(np.float32)
        _save(self.folder / f"{self.images.key(index)}.mat", {"Idenoised_crop": crop})

    def finish(self) -> None:
        dist.barrier()
        dist.on_main(self._bundle)

    def _bundle(self) -> None:
        by_image: dict[str, list[int]] = {}
        for index in range(len(self.images)):
            by_image.setdefault(self.images.key(index).split("_")[0], []).append(index)
        for image, indices in progress_bar(by_image.items(), "bundle", unit="image"):
            boxes = np.empty(len(indices), object)
            for position, index in enumerate(indices):
                boxes[position] = self._read_box(index)
            path = self.folder / "bundled" / f"{image}.mat"
            _save(path, {"Idenoised": boxes, "israw": False, "eval_version": "1.0"})
            _check(path, _is_bundle(path, boxes))
        logger.info(
            "%s: %d files of %d boxes, read back and found right. Zip this folder's files and upload them at "
            "https://noise.visinf.tu-darmstadt.de/submit/ (sRGB track)",
            self.folder / "bundled", len(by_image), len(self.images),
        )  # fmt: skip

    def _read_box(self, index: int) -> np.ndarray:
        """Read the file of a box and check its shape, type and range."""
        path = self.folder / f"{self.images.key(index)}.mat"
        if not path.is_file():
            raise UserError(f"{path}: missing; denoise all boxes, and let all processes see one file system")
        crop = read_v5(path, "Idenoised_crop")
        (height, width), (rows, columns) = self.images.size(index), self.images.window(index)
        shape = (len(range(height)[rows]), len(range(width)[columns]), 3)
        in_range = crop.size and crop.min() >= 0 and crop.max() <= 1  # false for NaN
        _check(path, bool(crop.shape == shape and crop.dtype == np.float32 and in_range))
        return crop


_FORMATS: dict[str, type[Submission]] = {"sidd": SIDDSubmission, "dnd": DNDSubmission}


def open_submission(images: ImageSet, folder: Path) -> Submission | None:
    """The submission for ``images``, written to ``folder``; None for a set that has none."""
    return None if images.submission is None else _FORMATS[images.submission](images, folder)


def _write_csv(file: BinaryIO, blocks: np.ndarray) -> None:
    """Write two columns: ``ID`` counts the blocks, image by image; ``BLOCK`` is base64 of the uint8 (H, W, 3) bytes."""
    file.write(b"ID,BLOCK\n")
    for number, block in enumerate(blocks.reshape(-1, *blocks.shape[2:])):
        file.write(b"%d,%s\n" % (number, base64.b64encode(block)))


def _csv_equals(path: Path, blocks: np.ndarray) -> bool:
    def expected() -> Iterator[tuple[bytes, bytes]]:
        yield b"ID", b"BLOCK"
        for number, block in enumerate(blocks.reshape(-1, *blocks.shape[2:])):
            yield b"%d" % number, block.tobytes()

    with path.open("rb") as file:
        for line, row in zip_longest(file, expected()):
            if line is None or row is None:
                return False
            number, data = line.rstrip(b"\n").split(b",")
            if number != row[0] or (data if number == b"ID" else base64.b64decode(data, validate=True)) != row[1]:
                return False
    return True


def _is_bundle(path: Path, boxes: np.ndarray) -> bool:
    cells = read_v5(path, "Idenoised")
    return (
        cells.shape == (1, len(boxes))
        and all(_equals(cell, box) for cell, box in zip(cells[0], boxes, strict=True))
        and not read_v5(path, "israw").item()
        and read_v5(path, "eval_version").item() == "1.0"
    )


def _equals(array: np.ndarray, expected: np.ndarray) -> bool:
    return array.dtype == expected.dtype and np.array_equal(array, expected)


def _save(path: Path, variables: dict[str, Any]) -> None:
    write_atomically(path, lambda file: scipy.io.savemat(file, variables))


def _check(path: Path, is_right: bool) -> None:
    if not is_right:
        raise UserError(f"{path}: not what should have been written; check the disk, and denoise again")
