"""DND, sRGB: 50 photographs with 1000 boxes that its server scores (Plötz and Roth, CVPR 2017)."""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from atbsn.data.base import ImageSet, listing
from atbsn.data.mat import open_v73
from atbsn.pictures import Picture, to_depth
from atbsn.registry import DATASETS
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger
from atbsn.utils.types import NonNegativeInt

PUBLISHED = (50, 20)
"""Number of images in the published set, and of boxes in each."""
_VARIABLE = "InoisySRGB"
"""Name of the image in a file."""


class DNDBox(NamedTuple):
    """A part of an image: rows and columns, counted from 0, without the last ones, ``bottom`` and ``right``."""

    top: int
    left: int
    bottom: int
    right: int


@DATASETS.register
class DND(ImageSet):
    """DND's noisy sRGB images, without references. Its files hold floats in [0, 1]; pictures are float32 in [0, 255].

    ``atbsn test`` denoises the boxes and writes the submission. Training takes the whole images, decoded once to 16
    bits (about 4 GB of memory).

    Args:
        dataroot: folder with ``info.mat`` and ``images_srgb/0001.mat`` ... ``0050.mat``.
        split: the 1000 boxes of 512x512 pixels that are scored, or the 50 whole images.
        context: pixels around a box that the network may see, as far as the image goes. Only the box itself is kept.

    Raises:
        UserError: a file is missing, damaged or of another kind; or a box lies outside of its image.
    """

    def __init__(
        self, dataroot: str | Path, split: Literal["boxes", "images"] = "boxes", context: NonNegativeInt = 0
    ) -> None:
        root = Path(dataroot)
        _check_files(root, [root / "info.mat"])
        boxes = _read_boxes(root / "info.mat")
        self._paths = [root / "images_srgb" / f"{number:04d}.mat" for number in range(1, len(boxes) + 1)]
        _check_files(root, self._paths)
        self._sizes = [_image_size(path) for path in self._paths]
        for path, size, inside in zip(self._paths, self._sizes, boxes, strict=True):
            _check_boxes(path, size, inside)
        if (len(boxes), {len(inside) for inside in boxes}) != (PUBLISHED[0], {PUBLISHED[1]}):
            logger.warning(
                "%s: %d images, %d boxes; the published set has %d and %d, and its server takes no other", root,
                len(boxes), sum(map(len, boxes)), PUBLISHED[0], PUBLISHED[0] * PUBLISHED[1],
            )  # fmt: skip
        self._context = context
        whole = split == "images"
        self.submission = None if whole else "dnd"
        self._parts = [
            (image, None if whole else number + 1, box)
            for image, inside in enumerate(boxes)
            for number, box in enumerate([DNDBox(0, 0, *self._sizes[image])] if whole else inside)
        ]

    def __len__(self) -> int:
        return len(self._parts)

    def key(self, index: int) -> str:
        """The name of a picture: ``0001`` for an image, ``0001_01`` for its first box."""
        image, number, _ = self._parts[index]
        return f"{image + 1:04d}" if number is None else f"{image + 1:04d}_{number:02d}"

    def size(self, index: int) -> tuple[int, int]:
        box = self._seen(index)
        return box.bottom - box.top, box.right - box.left

    def read(self, index: int) -> Picture:
        image, _, _ = self._parts[index]
        seen = self._seen(index)
        with open_v73(self._paths[image]) as file:
            values = file[_VARIABLE][:, seen.left : seen.right, seen.top : seen.bottom]
        rgb = np.ascontiguousarray(values.transpose(2, 1, 0), dtype=np.float32)
        rgb *= 255
        return Picture(rgb)

    def samples(self, index: int) -> np.ndarray:
        """Read picture ``index`` as (H, W, 3) uint16, in half the memory of floats, right to 1/514 of a grey value."""
        return to_depth(self.read(index).rgb, np.uint16)

    def window(self, index: int) -> tuple[slice, slice]:
        _, _, box = self._parts[index]
        seen = self._seen(index)
        return slice(box.top - seen.top, box.bottom - seen.top), slice(box.left - seen.left, box.right - seen.left)

    def _seen(self, index: int) -> DNDBox:
        """The box of picture ``index`` with its context."""
        image, _, (top, left, bottom, right) = self._parts[index]
        height, width = self._sizes[image]
        margin = self._context
        return DNDBox(
            max(0, top - margin), max(0, left - margin), min(height, bottom + margin), min(width, right + margin)
        )


def _read_boxes(path: Path) -> list[list[DNDBox]]:
    """Read the boxes of every image. In the file they are [row0, col0, row1, col1], from 1, with the last ones."""
    with open_v73(path) as file:
        info = file["info"]
        tables = [np.array(info[reference]) for reference in info["boundingboxes"][()].ravel()]
    for number, table in enumerate(tables, 1):
        if table.ndim != 2 or table.shape[0] != 4 or not np.array_equal(table, np.round(table)):
            raise UserError(
                f"{path}: boundingboxes of image {number:04d} are {' x '.join(map(str, table.shape))}, not 4 x "
                f"{PUBLISHED[1]} whole numbers; take the publisher's own file"
            )
    rows = (table.T.astype(int).tolist() for table in tables)
    return [[DNDBox(row0 - 1, col0 - 1, row1, col1) for row0, col0, row1, col1 in boxes] for boxes in rows]


def _check_files(root: Path, paths: list[Path]) -> None:
    missing = [path for path in paths if not path.is_file()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(
            f"{missing[0]}: no such file{more}; dataroot must hold info.mat and images_srgb/0001.mat to 0050.mat; "
            f"found in {root}: {listing(root)}"
        )


def _image_size(path: Path) -> tuple[int, int]:
    with open_v73(path) as file:
        shape, kind = file[_VARIABLE].shape, file[_VARIABLE].dtype.kind
    if len(shape) != 3 or shape[0] != 3 or kind != "f":
        raise UserError(
            f"{path}: {_VARIABLE} is {' x '.join(map(str, shape))} of kind '{kind}', not floats of 3 x W x H; "
            "take the publisher's own file"
        )
    return shape[2], shape[1]


def _check_boxes(path: Path, size: tuple[int, int], boxes: list[DNDBox]) -> None:
    for number, (top, left, bottom, right) in enumerate(boxes, 1):
        if not (0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]):
            raise UserError(
                f"{path}: box {number}, rows {top + 1} to {bottom} and columns {left + 1} to {right}, is not inside "
                f"of the image of {size[0]}x{size[1]}; info.mat and images must be of one release"
            )
