"""The pictures in a TIFF file: what their tags say, and their samples as the file has them (TIFF 6.0).

Pillow reduces samples to 8 bits, drops those that it does not know and cannot read big-endian BigTIFF; OpenCV takes no
heed of planes, of white that is zero, or of what a fourth sample means. Here only the bytes are unpacked, by libtiff,
and what they mean is taken from the tags.
"""

import io
import struct
from dataclasses import dataclass
from functools import cached_property
from mmap import mmap

import numpy as np
from PIL import TiffImagePlugin

from atbsn.pictures.exif import Directories, Entry
from atbsn.pictures.metadata import RefusedError, Samples

_MOST = 1000  # directories in a file: enough to know that it is no photograph
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_THUMBNAIL = 2
"""A picture whose sides are less than a 2nd of the largest one's is its thumbnail, whatever it says."""
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIPS, _ROWS, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_LOSSLESS = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})
"""Nothing, LZW, Deflate, PackBits, Deflate by its old number, LZMA, Zstandard: bytes in, the same bytes out."""
_UNSIGNED, _FLOAT = 1, 3
_KINDS = {1: "unsigned integers", 2: "signed integers", 3: "floating-point numbers", 5: "complex", 6: "complex"}
_ASSOCIATED, _UNASSOCIATED = 1, 2
_BLOCK = 256  # rows that are converted at once
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
    entries: tuple[Entry, ...]
    depth: int = 0

    @cached_property
    def tags(self) -> dict[int, tuple[int, ...]]:
        """The values of all tags of whole numbers."""
        return {
            entry.tag: struct.unpack(f"{self.order}{entry.length}{_INTEGERS[entry.kind]}", entry.value)
            for entry in self.entries
            if entry.kind in _INTEGERS and entry.length and entry.children is None
        }

    def number(self, tag: int, default: int) -> int:
        return self.tags.get(tag, (default,))[0]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored."""
        return self.number(_WIDTH, 0), self.number(_HEIGHT, 0)

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
        colours = 3 if self.number(_PHOTOMETRIC, _BLACK_IS_ZERO) == _RGB else 1
        count = max(0, self.samples - colours)
        return (self.tags.get(338, ()) + (0,) * count)[:count]

    @property
    def depths(self) -> set[int]:
        """Bits of the samples."""
        return set(self.tags.get(_BITS, (1,)))

    @property
    def formats(self) -> set[int]:
        return set(self.tags.get(339, (_UNSIGNED,))) - {4} or {_UNSIGNED}  # 4: undefined


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


def needs_bytes(page: Page, data: bytes) -> bool:
    """Whether Pillow would lose something of it, or cannot read it."""
    depths, extra = page.depths, page.extra
    plain = depths == {8} or (len(depths) == 1 and depths <= {1, 2, 4} and page.samples == 1)
    if not plain or page.formats != {_UNSIGNED} or data[:4] == b"MM\0+":
        return True
    colours = page.number(_PHOTOMETRIC, _BLACK_IS_ZERO) in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
    return colours and (page.is_planar or len(extra) > 1 or extra == (0,))


def stored_samples(data: bytes, page: Page) -> Samples:
    """The samples of a page, with white that is zero turned over and colours freed of their transparency.

    Whole numbers of fewer than 8 bits become 8, of 9 to 15 bits 16, white staying white; floating-point numbers become
    float32, as large as they are.

    Raises:
        RefusedError: of another kind.
        OSError, ValueError: damaged.
    """
    kind = page.number(_PHOTOMETRIC, _BLACK_IS_ZERO)
    _check_kind(page, kind)
    if page.is_planar:
        values = np.concatenate([_plane(data, page, plane) for plane in range(page.samples)], axis=2)
    else:
        values = _plane(data, page, 0)
    colours = 3 if kind == _RGB else 1
    if kind == _WHITE_IS_ZERO:
        top = 1 if values.dtype == np.float32 else np.iinfo(values.dtype).max
        values[..., :1] = top - values[..., :1]
    extra = page.extra
    at = next((number for number, what in enumerate(extra) if what in (_ASSOCIATED, _UNASSOCIATED)), None)
    if at is not None:
        if at:  # transparency comes first
            order = [*range(colours), colours + at, *(colours + n for n in range(len(extra)) if n != at)]
            values = np.ascontiguousarray(values[..., order])
        if extra[at] == _ASSOCIATED:
            _free(values[..., :colours], values[..., colours])
    assert values.shape == (*page.size[::-1], page.samples)
    return Samples(values, alpha=at is not None, extra=len(extra) - (at is not None))


def _check_kind(page: Page, kind: int) -> None:
    """Refuse what is not described by samples of grey or RGB."""
    remedy = "save it with 8 or 16 bits"
    if len(page.depths) != 1 or len(page.formats) != 1:
        raise RefusedError("its samples are of several kinds", remedy)
    (bits,), (what,) = page.depths, page.formats
    good = bits in range(1, 17) if what == _UNSIGNED else what == _FLOAT and bits in (16, 32, 64)
    if not good:
        raise RefusedError(f"its samples are {_KINDS.get(what, 'of an unknown kind')} of {bits} bits", remedy)
    if kind not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        names = {3: "a palette", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}
        raise RefusedError(f"its colours are {names.get(kind, 'not grey or RGB')} of {bits} bits", "convert it to RGB")
    if page.samples < (3 if kind == _RGB else 1):
        raise RefusedError(f"RGB of {page.samples} samples", "save it anew as RGB")
    if page.number(_COMPRESSION, 1) not in _LOSSLESS:
        raise RefusedError(
            f"its samples of {bits} bits are compressed by method {page.number(_COMPRESSION, 1)}",
            "save it without compression, or with LZW or Deflate",
        )


def _plane(data: bytes, page: Page, plane: int) -> np.ndarray:
    """(H, W, C): one plane, or all samples of a page that has them side by side."""
    (bits,), (what,) = page.depths, page.formats
    width, height = page.size
    beside = 1 if page.is_planar else page.samples
    rows = _unpacked(data, page, plane, -(-width * beside * bits // 8))
    predictor = page.number(317, 1)
    if what == _FLOAT and predictor == 3:
        rows, order = _undo_float_differences(rows, beside, bits // 8), ">"
    else:
        order = page.order
    if bits not in (8, 16, 32, 64):
        return _from_packed(rows, width * beside, bits).reshape(height, width, beside)
    code = {8: "u1", 16: "u2", 32: "u4", 64: "u8"}[bits]
    values = rows.view(order + code).astype(code, copy=False).reshape(height, width, beside)
    if predictor == 2:  # differences between neighbours, whatever the bits mean
        values = _undo_differences(values)
    if what == _FLOAT:
        values = values.view(f"f{bits // 8}").astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise RefusedError("some of its samples are no numbers (NaN or infinite)", "save it without them")
    return values if values.flags.writeable else values.copy()


def _unpacked(data: bytes, page: Page, plane: int, row: int) -> np.ndarray:
    """(H, bytes of a row): what libtiff unpacks, given a directory in which samples are bytes."""
    width, height = page.size
    per_pixel = (1 if page.is_planar else page.samples) * max(page.depths)
    tags: dict[int, tuple[int, ...]] = {
        _WIDTH: (row,),
        _HEIGHT: (height,),
        _BITS: (8,),
        _COMPRESSION: (page.number(_COMPRESSION, 1),),
        _PHOTOMETRIC: (_BLACK_IS_ZERO,),
        _FILL_ORDER: (page.number(_FILL_ORDER, 1),),
        277: (1,),
    }
    if _TILES in page.tags:
        wide, high = page.number(_TILE_WIDTH, 0), page.number(_TILE_HEIGHT, 0)
        if not wide or not high or wide * per_pixel % 8:
            raise ValueError("its tiles have no size")
        if page.number(_COMPRESSION, 1) == 1 and max(page.tags[_TILES]) + wide * high * per_pixel // 8 > len(data):
            raise ValueError("its samples end early")
        count, places, lengths = -(-width // wide) * -(-height // high), _TILES, _TILE_BYTES
        tags |= {_TILE_WIDTH: (wide * per_pixel // 8,), _TILE_HEIGHT: (high,)}
    else:
        rows = min(page.number(_ROWS, height), height) or height
        count, places, lengths = -(-height // rows), _STRIPS, _STRIP_BYTES
        tags[_ROWS] = (rows,)
    own = slice(plane * count, (plane + 1) * count)
    starts, sizes = page.tags.get(places, ())[own], page.tags.get(lengths, ())[own]
    if page.number(_COMPRESSION, 1) == 1 and count == 1 and places == _STRIPS:
        sizes = (row * height,)  # which old programs leave out
    if len(starts) != count or len(sizes) != count or not all(starts) or not all(sizes):
        raise ValueError("parts of its samples are missing")
    if max(start + size for start, size in zip(starts, sizes, strict=True)) > len(data):
        raise ValueError("its samples end early")
    tags |= {places: starts, lengths: sizes}
    TiffImagePlugin.READ_LIBTIFF = True  # Pillow's own reader fails at tiles over the edge
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(_with_directory(data, tags)))
    image.load()
    return np.array(image)


def _with_directory(data: bytes, tags: dict[int, tuple[int, ...]]) -> bytes:
    """The file, little-endian, with another directory at its end."""
    at = len(data) + len(data) % 2
    if at >= 2**32 - 2**20:
        raise ValueError("too large for its kind of compression")
    position, records, values = at + 2 + 12 * len(tags) + 4, b"", b""
    for tag, numbers in sorted(tags.items()):
        body = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            body, values = struct.pack("<I", position + len(values)), values + body
        records += struct.pack("<HHI", tag, 4, len(numbers)) + body
    directory = struct.pack("<H", len(tags)) + records + bytes(4) + values
    return b"".join((b"II*\0", struct.pack("<I", at), memoryview(data)[8:], bytes(len(data) % 2), directory))


def _from_packed(rows: np.ndarray, count: int, bits: int) -> np.ndarray:
    """(H, ``count``) of samples that lie bit by bit, as 8 or 16 bits."""
    full = 255 if bits < 8 else 65535
    values = np.empty((len(rows), count), np.uint8 if bits < 8 else np.uint16)
    weights = 1 << np.arange(bits - 1, -1, -1, dtype=np.uint32)
    for top in range(0, len(rows), _BLOCK):
        single = np.unpackbits(rows[top : top + _BLOCK], axis=1, count=count * bits)
        block = single.reshape(-1, count, bits) @ weights
        values[top : top + _BLOCK] = (block * full + (2**bits - 1) // 2) // (2**bits - 1)
    return values


def _undo_differences(values: np.ndarray) -> np.ndarray:
    """TIFF 6.0, section 14: each sample is the sum of all to its left, modulo its range."""
    for top in range(0, len(values), _BLOCK):
        values[top : top + _BLOCK] = np.cumsum(values[top : top + _BLOCK], axis=1, dtype=values.dtype)
    return values


def _undo_float_differences(rows: np.ndarray, beside: int, size: int) -> np.ndarray:
    """TIFF Technical Note 3: differences of bytes, which lie apart by their weight; the result is big-endian."""
    summed = np.cumsum(rows.reshape(len(rows), -1, beside), axis=1, dtype=np.uint8).reshape(len(rows), size, -1)
    return np.ascontiguousarray(summed.transpose(0, 2, 1)).reshape(len(rows), -1)


def _free(colours: np.ndarray, alpha: np.ndarray) -> None:
    """Divide colours by their transparency in place; where nothing shows they stay."""
    for top in range(0, len(colours), _BLOCK):
        block, share = colours[top : top + _BLOCK], alpha[top : top + _BLOCK, :, None]
        if colours.dtype == np.float32:
            np.divide(block, share, out=block, where=share > 0)
            continue
        full = np.uint64(np.iinfo(colours.dtype).max)
        share = np.maximum(share.astype(np.uint64), 1)
        freed = np.minimum((block * full + share // 2) // share, full)
        block[...] = np.where(alpha[top : top + _BLOCK, :, None] > 0, freed, block)
