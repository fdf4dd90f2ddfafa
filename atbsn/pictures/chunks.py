"""List, check and make the chunks of PNG files (PNG, third edition, 5), and read profiles that ImageMagick stores."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from mmap import mmap
from typing import NamedTuple

MAX_TEXT = 2**26
"""Bytes: most that a packet, a text or a profile may unpack to, 64 MiB. Chosen by hand."""
_XMP = b"XML:com.adobe.xmp\0"
"""Keyword of a text with an XMP packet (XMP Specification, part 3)."""
_RAW_PROFILE = b"Raw profile type "
"""Beginning of the keyword of ImageMagick's profiles."""
_ANCILLARY = 0x20
"""Bit of a kind's first letter that marks ancillary chunks, without which a picture can be shown (PNG, 5.4)."""


class Chunk(NamedTuple):
    """A chunk: its kind, and the positions where its content begins and ends. A checksum of four bytes follows."""

    kind: bytes
    start: int
    end: int


def walk(data: bytes | mmap) -> Iterator[Chunk]:
    """Yield the chunks of a file in their order, up to one that is cut off."""
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunk = Chunk(kind, at + 8, at + 8 + length)
        at = chunk.end + 4
        if at > len(data):
            return
        yield chunk
        if kind == b"IEND":
            return


def chunk(kind: bytes, body: bytes) -> bytes:
    """The bytes of a chunk: length, kind, content and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def sound(data: bytes | mmap) -> tuple[bytes | mmap, tuple[str, ...]]:
    """Remove ancillary chunks whose checksum is wrong, which viewers ignore, too.

    Returns:
        The file, and warnings about the chunks that were removed.

    Raises:
        ValueError: the checksum of a chunk that the picture needs is wrong.
    """
    with memoryview(data) as view:
        damaged = [each for each in walk(data) if zlib.crc32(view[each.start - 4 : each.end]) != _stated(data, each)]
        needed = [each for each in damaged if not each.kind[0] & _ANCILLARY]
        if needed:
            raise ValueError(f"the checksum of its chunk {_name(needed[0])} is wrong")
        if not damaged:
            return data, ()
        ends = [0, *(each.end + 4 for each in damaged)]
        starts = [*(each.start - 8 for each in damaged), len(data)]
        whole = b"".join(view[end:start] for end, start in zip(ends, starts, strict=True))
    return whole, tuple(f"its chunk {name} is damaged and left out" for name in dict.fromkeys(map(_name, damaged)))


def packet(body: bytes) -> bytes | None:
    """The XMP packet in an iTXt chunk; None for other texts."""
    if not body.startswith(_XMP) or len(body) < len(_XMP) + 4:
        return None
    compressed, rest = body[len(_XMP)], body[len(_XMP) + 2 :]
    _, _, text = rest.split(b"\0", 2) if rest.count(b"\0") >= 2 else (b"", b"", b"")
    return _inflated(text) if compressed else text


def xmp_text(text: bytes) -> bytes:
    """The body of an iTXt chunk that holds an XMP packet."""
    return _XMP + bytes(4) + text


def raw_profile(kind: bytes, body: bytes) -> tuple[str, bytes] | None:
    """Name and content of a profile that ImageMagick or another program stored as a text; None for other texts.

    In this way they store EXIF (``exif``, ``APP1``), XMP and IPTC. The text has a line with the name, a line with the
    number of bytes, and the bytes in hexadecimal digits.
    """
    name, _, rest = body.partition(b"\0")
    if kind not in (b"tEXt", b"zTXt") or not name.startswith(_RAW_PROFILE):
        return None
    text = _inflated(rest[1:]) if kind == b"zTXt" else rest
    lines = (text or b"").strip().split(b"\n", 2)
    if len(lines) < 3:
        return None
    with suppress(ValueError):
        content = bytes.fromhex("".join(lines[2].decode("ascii").split()))
        if len(content) == int(lines[1]):
            return name.removeprefix(_RAW_PROFILE).decode("latin-1").lower(), content
    return None


def _stated(data: bytes | mmap, each: Chunk) -> int:
    """The checksum that the file states for a chunk."""
    return int.from_bytes(data[each.end : each.end + 4], "big")


def _name(each: Chunk) -> str:
    return each.kind.decode("ascii", "backslashreplace")


def _inflated(data: bytes) -> bytes | None:
    """Decompressed ``data``; None if they are damaged or longer than ``MAX_TEXT``."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, MAX_TEXT)
    except zlib.error:
        return None
    return text if unpacker.eof else None
