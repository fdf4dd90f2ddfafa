"""The chunks of a PNG file: listed, checked, made (PNG, third edition, 5), and what ImageMagick keeps in its texts."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from mmap import mmap
from typing import NamedTuple

LONGEST_TEXT = 2**26
"""Bytes that a packet, a text or a profile may unpack to: 64 MiB."""
_XMP = b"XML:com.adobe.xmp\0"
_RAW_PROFILE = b"Raw profile type "
_SIDE = 0x20
"""The bit of a kind's first letter that says that a picture can be shown without such a chunk."""


class Chunk(NamedTuple):
    """A chunk: its kind, and where its content begins and ends; four bytes of checksum follow."""

    kind: bytes
    start: int
    end: int


def walk(data: bytes | mmap) -> Iterator[Chunk]:
    """The chunks of a file in their order, up to one that is cut off."""
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
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def sound(data: bytes | mmap) -> tuple[bytes | mmap, tuple[str, ...]]:
    """The file without those of its chunks whose checksum is wrong, as viewers read it, and what is to be said of them.

    Raises:
        ValueError: there is no picture without such a chunk.
    """
    with memoryview(data) as view:
        damaged = [each for each in walk(data) if zlib.crc32(view[each.start - 4 : each.end]) != _stated(data, each)]
        needed = [each for each in damaged if not each.kind[0] & _SIDE]
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
    """Name and content of what ImageMagick and others keep as digits in a text; None for any other text.

    So they keep EXIF (``exif``, ``APP1``), XMP and IPTC. The text is a line with the name, one with the number of
    bytes, and the bytes, hexadecimal.
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
    return int.from_bytes(data[each.end : each.end + 4], "big")


def _name(each: Chunk) -> str:
    return each.kind.decode("ascii", "backslashreplace")


def _inflated(data: bytes) -> bytes | None:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, LONGEST_TEXT)
    except zlib.error:
        return None
    return text if unpacker.eof else None
