"""The pictures in a TIFF file, as their tags describe them (TIFF 6.0)."""

import struct
from dataclasses import dataclass
from functools import cached_property
from mmap import mmap

from atbsn.pictures.exif import Directories, DirectoryEntry

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIPS, ROWS, STRIP_BYTES = 273, 278, 279
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 322, 323, 324, 325
PREDICTOR = 317
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, YCBCR = 0, 1, 2, 6
UNSIGNED, FLOAT = 1, 3
_UNDEFINED = 4
_MOST = 1000  # directories in a file: enough to know that it is no photograph
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_THUMBNAIL = 2
"""A picture whose sides are less than a 2nd of the largest one's is its thumbnail, whatever it says."""
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


@dataclass(frozen=True)
class Page:
    """One directory.

    Attributes:
        at: where it stands in the file.
        order: ``"<"`` or ``">"``.
        entries: its tags.
    """

    at: int
    order: str
    entries: tuple[DirectoryEntry, ...]
    depth: int = 0

    @cached_property
    def tags(self) -> dict[int, tuple[int, ...]]:
        """The values of all tags of whole numbers; of a tag that is there twice the first's, as libtiff has it."""
        return {
            entry.tag: struct.unpack(f"{self.order}{entry.length}{_INTEGERS[entry.kind]}", entry.value)
            for entry in reversed(self.entries)
            if entry.kind in _INTEGERS and entry.length and entry.children is None
        }

    def number(self, tag: int, default: int) -> int:
        return self.tags.get(tag, (default,))[0]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored."""
        return self.number(WIDTH, 0), self.number(HEIGHT, 0)

    @property
    def orientation(self) -> int:
        """1 to 8."""
        found = self.number(274, 1)
        return found if found in range(1, 9) else 1

    @property
    def is_reduced(self) -> bool:
        """A smaller copy or a mask of another picture, as it says."""
        return bool(self.number(254, 0) & (_REDUCED | _MASK)) or self.number(255, 1) == 2

    @property
    def samples(self) -> int:
        return self.number(277, 1)

    @property
    def is_planar(self) -> bool:
        """Each sample has a plane of its own."""
        return self.samples > 1 and self.number(284, 1) == 2

    @property
    def extra(self) -> tuple[int, ...]:
        """ExtraSamples: what those beyond the colours are, 0 where it is not said."""
        colours = 3 if self.number(PHOTOMETRIC, BLACK_IS_ZERO) == RGB else 1
        count = max(0, self.samples - colours)
        return (self.tags.get(338, ()) + (0,) * count)[:count]

    @property
    def depths(self) -> set[int]:
        """Bits of the samples."""
        return set(self.tags.get(BITS, (1,)))

    @property
    def formats(self) -> set[int]:
        return set(self.tags.get(339, (UNSIGNED,))) - {_UNDEFINED} or {UNSIGNED}


def pages(data: bytes | mmap) -> list[Page]:
    """The directories of a file in their order.

    Raises:
        ValueError: no TIFF structure.
    """
    directories = Directories(data)
    found, at, seen = list[Page](), directories.first, set[int]()
    while at and at not in seen and len(found) < _MOST:
        seen.add(at)
        try:
            entries, behind = directories.read(at)
        except ValueError:
            if not found:
                raise
            break
        found.append(Page(at, directories.order, entries))
        if behind + (8 if directories.big else 4) > len(data):
            break
        at = directories.number("Q" if directories.big else "I", behind)
    return found


def main_pages(found: list[Page]) -> list[int]:
    """Which of the directories are pictures of their own. Thumbnails, smaller copies and masks are none."""
    own = [number for number, page in enumerate(found) if not page.is_reduced and all(page.size)]
    if not own:
        return [0]
    width, height = (max(found[number].size[side] for number in own) for side in (0, 1))
    return [
        number
        for number in own
        if found[number].size[0] * _THUMBNAIL > width or found[number].size[1] * _THUMBNAIL > height
    ]


def full_size(data: bytes | mmap, page: Page) -> Page:
    """The page, or, where it is a smaller copy, the picture of full size in its sub-directories."""
    if not page.is_reduced:
        return page
    directories = Directories(data)
    for at in page.tags.get(330, ()):
        try:
            beneath = Page(at, page.order, directories.read(at)[0], depth=1)
        except ValueError:
            continue
        if not beneath.is_reduced and all(beneath.size):
            return beneath
    return page
