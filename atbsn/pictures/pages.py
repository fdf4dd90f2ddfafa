"""The pictures in a TIFF file, described by their tags (TIFF 6.0)."""

import struct
from dataclasses import dataclass
from functools import cached_property
from mmap import mmap

from atbsn.pictures.exif import Directories, DirectoryEntry

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIPS, ROWS, STRIP_BYTES = 273, 278, 279
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 322, 323, 324, 325
PREDICTOR = 317
"""Tags, by their names in TIFF 6.0."""
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, YCBCR = 0, 1, 2, 6
"""Values of PhotometricInterpretation."""
UNSIGNED, FLOAT = 1, 3
"""Values of SampleFormat."""
_UNDEFINED = 4
"""Value of SampleFormat for data without a type, which are taken for unsigned integers."""
_MAX_DIRECTORIES = 1000
"""Most directories that are read. Chosen by hand: a file with so many is no photograph."""
_REDUCED, _MASK = 1, 4
"""Bits of NewSubfileType: a smaller copy, and a mask."""
_THUMBNAIL = 2
"""A picture whose sides are shorter than those of the largest one divided by this number counts as a thumbnail. Chosen
by hand."""
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""Codes in ``struct`` of the types of unsigned integers."""


@dataclass(frozen=True)
class TiffPage:
    """One directory.

    Attributes:
        at: its position in the file.
        order: byte order, ``"<"`` or ``">"``.
        entries: its entries.
        depth: 0 for a directory of the file, 1 for a sub-directory.
    """

    at: int
    order: str
    entries: tuple[DirectoryEntry, ...]
    depth: int = 0

    @cached_property
    def tags(self) -> dict[int, tuple[int, ...]]:
        """The values of all tags of unsigned integers. If a tag is there twice, the first counts, as for libtiff."""
        return {
            entry.tag: struct.unpack(f"{self.order}{entry.length}{_INTEGERS[entry.kind]}", entry.value)
            for entry in reversed(self.entries)
            if entry.kind in _INTEGERS and entry.length and entry.children is None
        }

    def number(self, tag: int, default: int) -> int:
        """The first value of a tag; ``default`` if the tag is missing."""
        return self.tags.get(tag, (default,))[0]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored, pixels."""
        return self.number(WIDTH, 0), self.number(HEIGHT, 0)

    @property
    def orientation(self) -> int:
        """The orientation, 1 to 8."""
        found = self.number(274, 1)
        return found if found in range(1, 9) else 1

    @property
    def is_reduced(self) -> bool:
        """Whether it is marked as a smaller copy or a mask of another picture."""
        return bool(self.number(254, 0) & (_REDUCED | _MASK)) or self.number(255, 1) == 2

    @property
    def samples(self) -> int:
        """Samples of a pixel."""
        return self.number(277, 1)

    @property
    def is_planar(self) -> bool:
        """Whether each sample has a plane of its own."""
        return self.samples > 1 and self.number(284, 1) == 2

    @property
    def extra(self) -> tuple[int, ...]:
        """ExtraSamples: the meaning of each sample beyond the colours; 0 if it is not stated."""
        colours = 3 if self.number(PHOTOMETRIC, BLACK_IS_ZERO) == RGB else 1
        count = max(0, self.samples - colours)
        return (self.tags.get(338, ()) + (0,) * count)[:count]

    @property
    def depths(self) -> set[int]:
        """The numbers of bits of the samples."""
        return set(self.tags.get(BITS, (1,)))

    @property
    def formats(self) -> set[int]:
        """The values of SampleFormat."""
        return set(self.tags.get(339, (UNSIGNED,))) - {_UNDEFINED} or {UNSIGNED}


def pages(data: bytes | mmap) -> list[TiffPage]:
    """The directories of a file in their order.

    Raises:
        ValueError: no TIFF structure.
    """
    directories = Directories(data)
    found, at, seen = list[TiffPage](), directories.first, set[int]()
    while at and at not in seen and len(found) < _MAX_DIRECTORIES:
        seen.add(at)
        try:
            entries, behind = directories.read(at)
        except ValueError:
            if not found:
                raise
            break
        found.append(TiffPage(at, directories.order, entries))
        if behind + (8 if directories.big else 4) > len(data):
            break
        at = directories.number("Q" if directories.big else "I", behind)
    return found


def main_pages(found: list[TiffPage]) -> list[int]:
    """Indices of the directories that are pictures, and not thumbnails, smaller copies or masks."""
    own = [number for number, page in enumerate(found) if not page.is_reduced and all(page.size)]
    if not own:
        return [0]
    width, height = (max(found[number].size[side] for number in own) for side in (0, 1))
    return [
        number
        for number in own
        if found[number].size[0] * _THUMBNAIL > width or found[number].size[1] * _THUMBNAIL > height
    ]


def full_size(data: bytes | mmap, page: TiffPage) -> TiffPage:
    """``page`` or, if it is a smaller copy, the picture of full size in its sub-directories."""
    if not page.is_reduced:
        return page
    directories = Directories(data)
    for at in page.tags.get(330, ()):
        try:
            beneath = TiffPage(at, page.order, directories.read(at)[0], depth=1)
        except ValueError:
            continue
        if not beneath.is_reduced and all(beneath.size):
            return beneath
    return page
