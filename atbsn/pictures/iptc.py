"""The IPTC record: alone, as in TIFF, and in Photoshop's image resources, as in JPEG."""

import struct

_RECORD = 0x0404
"""Number of the IPTC record among Photoshop's image resources."""


def wrap(record: bytes) -> bytes:
    """An IPTC record as an image resource of Photoshop."""
    return b"8BIM" + struct.pack(">H2xI", _RECORD, len(record)) + record + bytes(len(record) % 2)


def record(resources: bytes | None) -> bytes | None:
    """The IPTC record in Photoshop's image resources; None if there is none."""
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
