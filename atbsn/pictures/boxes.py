"""Read the boxes of HEIC, AVIF and CR3 files (ISO/IEC 14496-12 and 23008-12) for facts that decoders do not report."""

import struct
from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

from atbsn.pictures.metadata import CodePoints

_GAIN_MAPS = (b"urn:com:apple:photo:2020:aux:hdrgainmap", b"tmap")
_DEPTHS = (b"urn:mpeg:hevc:2015:auxid:2", b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth", b"urn:mpeg:avc:2015:auxid:2")
"""Kinds of auxiliary pictures, as files name them: gain maps of Apple and of ISO 21496-1 (``tmap``), and depth maps."""
_MAX_BOXES = 4096
"""Most boxes that are read on one level. Chosen by hand: more than any picture has."""


class Box(NamedTuple):
    """A box: its kind, and the positions where its content begins and ends, in bytes."""

    kind: bytes
    start: int
    end: int


class BoxFacts(NamedTuple):
    """Facts on the primary picture.

    Attributes:
        cicp: its colours by numbers, from ``nclx``; None: not stated.
        bits: bits of a sample; 8 if not stated.
        attachments: pictures beside it that will not be written, in words.
        nclx: position of the numbers of its colours in the file.
    """

    cicp: CodePoints | None = None
    bits: int = 8
    attachments: tuple[str, ...] = ()
    nclx: int | None = None


def kind(head: bytes | mmap) -> frozenset[bytes]:
    """The brands of a file that begins with ``head``; empty if it has no boxes."""
    if head[4:8] != b"ftyp":
        return frozenset()
    length = min(int.from_bytes(head[:4], "big"), 512)
    return frozenset([head[8:12], *(head[at : at + 4] for at in range(16, min(length, len(head)), 4))])


def facts(data: bytes) -> BoxFacts:
    """Read the facts on the primary picture. Damaged boxes count as missing."""
    try:
        return _facts(data)
    except (struct.error, IndexError, KeyError, StopIteration):
        return BoxFacts()


def walk(data: bytes, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two positions."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        size, name = struct.unpack_from(">I4s", data, start)
        body = start + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, body)
            body += 8
        stop = end if size == 0 else start + size
        if stop < body or stop > end:
            return
        yield Box(name, body, stop)
        start = stop


def _facts(data: bytes) -> BoxFacts:
    meta = next(box for box in walk(data, 0, len(data)) if box.kind == b"meta")
    inside = {box.kind: box for box in walk(data, meta.start + 4, meta.end)}
    properties = {box.kind: box for box in walk(data, inside[b"iprp"].start, inside[b"iprp"].end)}
    listed = list(walk(data, properties[b"ipco"].start, properties[b"ipco"].end))
    pitm = inside[b"pitm"].start
    (primary,) = struct.unpack_from(">H" if data[pitm] == 0 else ">I", data, pitm + 4)
    own = [listed[number - 1] for number in _associated(data, properties[b"ipma"], primary) if number <= len(listed)]
    cicp, nclx, bits = None, None, 8
    for box in own:
        if box.kind == b"colr" and data[box.start : box.start + 4] == b"nclx":
            nclx = box.start + 4
            primaries, transfer, matrix, flags = struct.unpack_from(">HHHB", data, nclx)
            cicp = CodePoints(primaries, transfer, matrix, bool(flags >> 7))
        elif box.kind == b"pixi" and data[box.start + 4]:
            bits = data[box.start + 5]
        elif box.kind == b"av1C":
            bits = max(bits, {0: 8, 2: 10, 3: 12}.get(data[box.start + 2] >> 5 & 3, 8))
    items = data[inside[b"iinf"].start : inside[b"iinf"].end] if b"iinf" in inside else b""
    told = data[properties[b"ipco"].start : properties[b"ipco"].end] + items
    attached = [("gain map (HDR)", _GAIN_MAPS), ("depth map", _DEPTHS)]
    attachments = tuple(name for name, marks in attached if any(mark in told for mark in marks))
    return BoxFacts(cicp, bits, attachments, nclx)


def _associated(data: bytes, ipma: Box, item: int) -> list[int]:
    """The numbers, from 1, of the properties of an item (``ipma``)."""
    version, flags = data[ipma.start], data[ipma.start + 3]
    (count,) = struct.unpack_from(">I", data, ipma.start + 4)
    at, code = ipma.start + 8, ">H" if version == 0 else ">I"
    for _ in range(min(count, _MAX_BOXES)):
        (number,) = struct.unpack_from(code, data, at)
        at += struct.calcsize(code)
        properties, at = data[at], at + 1
        width, mask = (2, 0x7FFF) if flags & 1 else (1, 0x7F)
        found = [int.from_bytes(data[at + n * width : at + (n + 1) * width], "big") & mask for n in range(properties)]
        if number == item:
            return [number for number in found if number]
        at += properties * width
    return []
