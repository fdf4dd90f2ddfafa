"""What cameras and programs write beside the pixels: EXIF as a camera writes it, an ICC profile, an XMP packet."""

import struct
from collections.abc import Sequence

import numpy as np
from PIL import ImageCms

from atbsn.pictures import exif

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf/>\xc3\xa9</x:xmpmeta><?xpacket end="w"?>'
NOTE = bytes(range(256)) * 3 + b"!"  # a maker note, of odd length


def entry(tag: int, kind: int, order: str, *values: int | bytes) -> exif.DirectoryEntry:
    """A tag: text or bytes of kind 2 or 7, or numbers of kind 3, 4 or 5 (a rational is two of them)."""
    if isinstance(values[0], bytes):
        return exif.DirectoryEntry(tag, kind, len(values[0]), values[0])
    code = {3: "H", 4: "I", 5: "II"}[kind]
    numbers = len(values) // len(code)
    return exif.DirectoryEntry(tag, kind, numbers, struct.pack(order + code * numbers, *values))


def directories(order: str, orientation: int = 1) -> list[exif.DirectoryEntry]:
    """The first directory of a camera, with EXIF, interoperability, GPS and a maker note."""
    interop = (entry(1, 2, order, b"R98\0"),)
    camera = (
        entry(33434, 5, order, 1, 160),
        entry(36867, 2, order, b"2026:01:02 03:04:05\0"),
        entry(37500, 7, order, NOTE),
        entry(40962, 4, order, 64),
        entry(40963, 4, order, 48),
        exif.DirectoryEntry(40965, 4, 1, bytes(4), interop),
    )
    gps = (entry(1, 2, order, b"N\0"), entry(2, 5, order, 48, 1, 8, 1, 1234, 100), entry(29, 2, order, b"2026:01:02\0"))
    return [
        entry(271, 2, order, b"Maker\0"),
        entry(274, 3, order, orientation),
        entry(282, 5, order, 3000, 10),
        entry(283, 5, order, 1500, 10),
        entry(296, 3, order, 2),
        entry(33432, 2, order, "© me\0".encode()),
        exif.DirectoryEntry(exif.EXIF, 4, 1, bytes(4), camera),
        exif.DirectoryEntry(exif.GPS, 4, 1, bytes(4), gps),
    ]


def camera_block(order: str = ">", orientation: int = 1, thumbnail: bytes = b"") -> bytes:
    """An EXIF block as cameras write it: the thumbnail last."""
    header = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
    block = bytearray(header + exif.directory(directories(order, orientation), order, 8))
    if thumbnail:
        second = len(block)
        struct.pack_into(order + "I", block, 8 + 2 + 12 * 8, second)
        tags = [entry(513, 4, order, second + 2 + 2 * 12 + 4), entry(514, 4, order, len(thumbnail))]
        block += exif.directory(tags, order, second) + thumbnail
    return b"Exif\0\0" + bytes(block)


def values(block: bytes) -> dict[tuple[int, int], tuple[int, int, list[int]]]:
    """All tags in an EXIF block: {(directory, tag): (type, count, bytes in little endian order)}."""
    found = exif.Directories(block.removeprefix(b"Exif\0\0"))
    result = {}

    def walk(entries: Sequence[exif.DirectoryEntry], name: int) -> None:
        for item in entries:
            if item.children is not None:
                walk(item.children, item.tag)
            else:
                width = {3: 2, 4: 4, 5: 4}.get(item.kind, 1)
                number = np.frombuffer(item.value, f"{found.order}u{width}")
                result[name, item.tag] = (item.kind, item.length, number.tolist())

    walk(found.read(found.first)[0], 0)
    return result
