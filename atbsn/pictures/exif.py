"""Read and write EXIF blocks and TIFF directories (TIFF 6.0; EXIF 2.3).

An EXIF block is a small TIFF file. It is changed byte by byte and never decoded and encoded again, because maker notes
contain offsets into the block whose format only the maker knows, and a new block would break them.
"""

import struct
from collections.abc import Iterable
from mmap import mmap
from typing import NamedTuple

PREFIX = b"Exif\0\0"
"""Beginning of an EXIF block."""
ORIENTATION, MAKE, MODEL = 274, 271, 272
"""Tags: how the picture is turned, and maker and model of the camera."""
_TEXT = 2
"""The TIFF type of texts."""
RESOLUTION = (282, 283, 296)
"""Tags: XResolution, YResolution and ResolutionUnit."""
EXIF, GPS, _INTEROP, _MAKER_NOTE = 34665, 34853, 40965, 37500
"""Tags: the sub-directories of EXIF, GPS and interoperability, and the maker's notes."""
XMP, IPTC, PHOTOSHOP, ICC = 700, 33723, 34377, 34675
"""Tags: metadata of other standards, and the colour profile."""
_TEXTS = (269, 270, 271, 272, 305, 306, 315, 316, 33432, *range(40091, 40096))
"""Tags: title, camera, software, date, author, computer, rights, and the texts of Windows."""
_KEPT = frozenset({*_TEXTS, *RESOLUTION, 18246, 18249, EXIF, GPS})
"""Tags that are kept for another file: texts, resolution, ratings, EXIF and GPS. The other tags of a TIFF's first
directory describe the bytes of the old file."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value of each type (TIFF 6.0, section 2; 13 are offsets of sub-directories; 16 to 18 are BigTIFF's)."""
_SWAPPED = ((256, 257), (40962, 40963))
"""Tags: width and height, in the first directory and in that of EXIF."""
_THUMBNAIL = (513, 514)
"""Tags: offset and length of the thumbnail."""
_MAX_ENTRIES = 4096
"""Most entries in a directory; more mean that it is damaged. Chosen by hand."""


class DirectoryEntry(NamedTuple):
    """An entry of a directory.

    Attributes:
        tag: number of the tag.
        kind: TIFF type of the values.
        length: number of values.
        value: bytes of the values.
        children: entries of a sub-directory; None: it is not one.
        position: where the entry begins in the file.
        end: where its values end in the file.
    """

    tag: int
    kind: int
    length: int
    value: bytes
    children: tuple["DirectoryEntry", ...] | None = None
    position: int = 0
    end: int = 0


class Directories:
    """The directories of a TIFF file, an EXIF block or a camera's RAW file.

    Args:
        data: the whole file or block, bytes or a view of them; BigTIFF too.

    Raises:
        ValueError: no TIFF structure.
    """

    def __init__(self, data: bytes | bytearray | memoryview | mmap) -> None:
        if data[:2] not in (b"II", b"MM") or len(data) < 8:
            raise ValueError("no TIFF structure")
        self.data, self.order = data, "<" if data[:2] == b"II" else ">"
        self.big = data[2:4] in (b"+\0", b"\0+")
        self.first = self.number("Q" if self.big else "I", 8 if self.big else 4)

    def number(self, kind: str, position: int) -> int:
        """The unsigned number at ``position``; ``kind`` is its code in ``struct``."""
        try:
            return struct.unpack_from(self.order + kind, self.data, position)[0]
        except (struct.error, OverflowError):
            raise ValueError("the TIFF structure leads outside of the file") from None

    def read(self, offset: int, depth: int = 0) -> tuple[tuple[DirectoryEntry, ...], int]:
        """The entries at ``offset`` with their sub-directories, and the position of the next directory's offset.

        Entries that lead outside of the file are left out.
        """
        count, start = (self.number("Q", offset), 8) if self.big else (self.number("H", offset), 2)
        width, inline, code = (20, 8, "Q") if self.big else (12, 4, "I")
        if count > _MAX_ENTRIES:
            raise ValueError("the TIFF structure is damaged")
        entries = []
        for position in range(offset + start, offset + start + count * width, width):
            tag, kind = self.number("H", position), self.number("H", position + 2)
            number = self.number(code, position + 4)
            at, size = position + width - inline, _SIZES.get(kind, 0) * number
            if size > inline:
                at = self.number(code, at)
            if kind not in _SIZES or at + size > len(self.data):
                continue
            value, children = bytes(self.data[at : at + size]), None
            if tag in (EXIF, GPS, _INTEROP) and depth < 2 and number == 1 and _SIZES[kind] in (4, 8):
                children = self._children(self.number("I" if len(value) == 4 else "Q", at), depth + 1)
                if children is None:
                    continue
            entries.append(DirectoryEntry(tag, kind, number, value, children, position, at + size))
        return tuple(entries), offset + start + count * width

    def _children(self, offset: int, depth: int) -> tuple[DirectoryEntry, ...] | None:
        try:
            return self.read(offset, depth)[0]
        except ValueError:
            return None


def orientation(block: bytes | None) -> int:
    """The orientation in an EXIF block, 1 to 8; 1 if there is none or it is not valid."""
    try:
        directories = Directories((block or b"").removeprefix(PREFIX))
        found = _values(directories, directories.read(directories.first)[0]).get(ORIENTATION, 1)
    except ValueError:
        return 1
    return found if found in range(1, 9) else 1


def camera(block: bytes | None) -> str | None:
    """Make and model of the camera in an EXIF block, such as ``Canon EOS 5D Mark II``; None if there are none.

    If the model begins with the make, the make is not repeated.
    """
    try:
        directories = Directories((block or b"").removeprefix(PREFIX))
        entries = directories.read(directories.first)[0]
    except ValueError:
        return None
    texts = {entry.tag: entry.value.split(b"\0")[0].decode("ascii", "ignore").strip() for entry in entries
             if entry.tag in (MAKE, MODEL) and entry.kind == _TEXT}  # fmt: skip
    make, model = texts.get(MAKE, ""), texts.get(MODEL, "")
    repeated = make and model.lower().startswith(make.split()[0].lower())
    return (model if repeated else f"{make} {model}".strip()) or None


def upright(block: bytes | None, transposed: bool = False) -> bytes | None:
    """The block with orientation 1 and without a thumbnail; other bytes stay. None if it is not an EXIF block.

    Args:
        block: the EXIF block.
        transposed: whether turning the picture has exchanged width and height. Then they are exchanged here, too.
    """
    try:
        directories = Directories((block or b"").removeprefix(PREFIX))
        entries, behind = directories.read(directories.first)
    except ValueError:
        return None
    data = bytearray(directories.data)
    for entry in entries:
        if entry.tag == ORIENTATION and entry.kind in (3, 4):
            code = "H" if entry.kind == 3 else "I"
            struct.pack_into(directories.order + code, data, entry.position + 8, 1)
    if transposed:
        for (width, height), level in zip(_SWAPPED, (entries, _child(entries, EXIF)), strict=True):
            positions = [entry.position for tag in (width, height) for entry in level if entry.tag == tag]
            if len(positions) == 2:
                (one, other) = (slice(position + 2, position + 12) for position in positions)
                data[one], data[other] = data[other], data[one]
    if behind + 4 <= len(data):
        _drop_thumbnail(directories, data, entries, behind)
    return PREFIX + bytes(data)


def without_orientation(block: bytes) -> bytes:
    """The block without the tag of the orientation in its first directory; other bytes stay."""
    directories = Directories(block.removeprefix(PREFIX))
    entries, behind = directories.read(directories.first)
    data = bytearray(directories.data)
    for position in [entry.position for entry in entries if entry.tag == ORIENTATION][:1]:
        data[position : behind + 4] = data[position + 12 : behind + 4] + bytes(12)
        count = directories.number("H", directories.first) - 1
        struct.pack_into(directories.order + "H", data, directories.first, count)
    return PREFIX + bytes(data)


def collect(data: bytes, maker_notes: bool = True, at: int | None = None) -> tuple[bytes | None, dict[int, bytes]]:
    """Read the metadata of a TIFF or RAW file.

    Args:
        data: the file.
        maker_notes: whether to keep maker notes.
        at: position of the directory; None: the first one.

    Returns:
        A new EXIF block, or None; and the values of the tags XMP, IPTC, PHOTOSHOP and ICC that are there.
    """
    try:
        directories = Directories(data)
        entries, _ = directories.read(directories.first if at is None else at)
    except ValueError:
        return None, {}
    beside = {entry.tag: entry.value for entry in entries if entry.tag in (XMP, IPTC, PHOTOSHOP, ICC)}
    return block(entries, directories.order, maker_notes), beside


def block(entries: Iterable[DirectoryEntry], order: str, maker_notes: bool = True) -> bytes | None:
    """A new EXIF block of those ``entries`` that describe the picture; None if none does.

    Args:
        entries: entries of the first directory.
        order: byte order of their values.
        maker_notes: whether to keep maker notes.
    """
    kept = [entry for entry in entries if entry.tag in _KEPT and entry.length]
    if not maker_notes:
        kept = [
            entry._replace(children=tuple(child for child in entry.children if child.tag != _MAKER_NOTE))
            if entry.children is not None
            else entry
            for entry in kept
        ]
    if not kept:
        return None
    header = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
    return PREFIX + header + directory(kept, order, len(header))


def for_tiff(block: bytes | None) -> tuple[list[DirectoryEntry], str]:
    """The entries of an EXIF block that are written into a TIFF, and their byte order."""
    try:
        directories = Directories((block or b"").removeprefix(PREFIX))
        entries, _ = directories.read(directories.first)
    except ValueError:
        return [], "<"
    return [entry for entry in entries if entry.tag in _KEPT and entry.length], directories.order


def directory(entries: Iterable[DirectoryEntry], order: str, at: int) -> bytes:
    """The bytes of a directory with its values and sub-directories, for position ``at`` of a file."""
    entries = sorted(entries, key=lambda entry: entry.tag)
    position = at + 2 + 12 * len(entries) + 4
    records, values = [], b""
    for entry in entries:
        kind, count, value = entry.kind, entry.length, entry.value
        if entry.children is not None:
            beyond = directory(entry.children, order, position + len(values))
            kind, count, value = 4, 1, struct.pack(order + "I", position + len(values))
            values += beyond + bytes(len(beyond) % 2)
        elif len(value) > 4:
            beyond, value = value, struct.pack(order + "I", position + len(values))
            values += beyond + bytes(len(beyond) % 2)
        records.append(struct.pack(order + "HHI", entry.tag, kind, count) + value.ljust(4, b"\0"))
    return struct.pack(order + "H", len(records)) + b"".join(records) + bytes(4) + values


def _values(directories: Directories, entries: Iterable[DirectoryEntry]) -> dict[int, int]:
    """The first value of each entry of 16-bit or 32-bit integers, by tag."""
    codes = {3: "H", 4: "I"}
    return {
        entry.tag: directories.number(codes[entry.kind], entry.end - len(entry.value))
        for entry in entries
        if entry.kind in codes and entry.length
    }


def _child(entries: Iterable[DirectoryEntry], tag: int) -> tuple[DirectoryEntry, ...]:
    return next((entry.children or () for entry in entries if entry.tag == tag), ())


def _drop_thumbnail(
    directories: Directories, data: bytearray, entries: tuple[DirectoryEntry, ...], behind: int
) -> None:
    """Cut off the second directory and its thumbnail; if other data follow, fill the thumbnail with zeros instead."""
    second = directories.number("I", behind)
    struct.pack_into("4x", data, behind)
    try:
        values = _values(directories, directories.read(second)[0]) if second else {}
    except ValueError:
        return
    start, length = (values.get(tag, 0) for tag in _THUMBNAIL)
    used = behind + 4
    levels = [entries]
    for level in levels:
        used = max([used, *(entry.end for entry in level), *(entry.position + 16 for entry in level)])  # 16: 4 behind
        levels += [entry.children for entry in level if entry.children]
    used += used % 2
    if second >= used and (start >= used or not length):
        del data[used:]
    elif length and used > start:
        data[start : start + length] = bytes(len(data[start : start + length]))
    elif length:
        del data[max(start, used) :]
