"""The IPTC record, bare as in TIFF and in Photoshop's image resources as in JPEG."""

import struct

_RECORD = 0x0404


def wrap(record: bytes) -> bytes:
    """An IPTC record as Photoshop's image resource."""
    return b"8BIM" + struct.pack(">H2xI", _RECORD, len(record)) + record + bytes(len(record) % 2)


def record(resources: bytes | None) -> bytes | None:
    """The IPTC record in Photoshop's image resources."""
    position = 0
    while resources and resources[position : position + 4] == b"8BIM" and position + 12 <= len(resources):
        kind, name = struct.unpack_from(">HB", resources, position + 4)
        position += 6 + (name + 2 & ~1)
        if position + 4 > len(resources):
            break
        (length,) = struct.unpack_from(">I", resources, position)
        if kind == _RECORD:
            return resources[position + 4 : position + 4 + length]
        position += 4 + (length + 1 & ~1)
    return None
