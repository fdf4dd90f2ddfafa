"""Read and change XMP packets. Only statements that are no longer true are changed; other bytes stay.

The formats are those of Adobe's "XMP Specification", parts 1 (packets) and 3 (storage in files).
"""

import hashlib
import re
import struct

STANDARD = b"http://ns.adobe.com/xap/1.0/\0"
EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
"""Beginnings of the segments of a JPEG: the packet, and a part of an extended packet."""
_ROOM = 65533 - len(EXTENSION) - 32 - 8
"""Bytes of an extended packet in one segment (part 3, 1.1.3.1)."""
_HAS_MORE = re.compile(rb"xmpNote:HasExtendedXMP\s*(?:=\s*[\"']|>)\s*([0-9A-Fa-f]{32})")
"""The property that names the checksum of the extended packet."""

_CONTAINER = b"http://ns.google.com/photos/1.0/container/"
"""Namespace of Google's list of attachments."""
_GAIN_MAP = (b"http://ns.adobe.com/hdr-gain-map/1.0/", b"http://ns.apple.com/HDRGainMap/1.0/")
"""Namespaces of gain maps."""
_CAMERA = b"http://ns.google.com/photos/1.0/camera/"
"""Namespace of Google's motion photos."""
_MOTION = (b"MotionPhoto", b"MicroVideo")
"""Beginnings of the names of their properties."""


def upright(packet: bytes | None) -> bytes | None:
    """The packet with orientation 1; other bytes stay."""
    return re.sub(rb"(tiff:Orientation(?:\s*=\s*[\"']|>))[1-8]", rb"\g<1>1", packet) if packet else None


def orientation(packet: bytes | None) -> int:
    """The orientation in a packet, 1 to 8, for files without EXIF; 1 if there is none."""
    found = re.search(rb"tiff:Orientation(?:\s*=\s*[\"']|>)([1-8])", packet or b"")
    return int(found[1]) if found else 1


def without_attachments(packet: bytes | None) -> tuple[bytes | None, tuple[str, ...]]:
    """Remove from a packet what it says of attachments, pictures and videos behind the picture: they are not written.

    Returns:
        The packet, and the attachments in words.
    """
    if not packet:
        return packet, ()
    found = []
    gain_maps = [prefix for namespace in _GAIN_MAP for prefix in _prefixes(packet, namespace)]
    described = packet
    for prefix in gain_maps:
        packet = _drop(packet, prefix, rb"[\w.-]+")
    containers = _prefixes(packet, _CONTAINER)
    is_gain_map = re.search(rb"Semantic\s*(?:=\s*[\"']|>)\s*GainMap", described)
    if packet != described or is_gain_map:
        found.append("gain map (HDR)")
    cameras = _prefixes(packet, _CAMERA)
    for prefix in cameras:
        shorter = packet
        for name in _MOTION:
            shorter = _drop(shorter, prefix, name + rb"\w*")
        if shorter != packet:
            found.append("video (motion photo)")
        packet = shorter
    if found:
        for prefix in containers:
            packet = _drop(packet, prefix, rb"Directory")
    return packet, tuple(dict.fromkeys(found))


def segments(packet: bytes) -> list[bytes]:
    """The contents of the APP1 segments of a JPEG for the packet: one, or several for an extended packet."""
    if len(STANDARD) + len(packet) <= 65533:
        return [STANDARD + packet]
    bare = re.sub(rb"<\?xpacket.*?\?>", b"", packet, flags=re.S).strip()
    digest = hashlib.md5(bare, usedforsecurity=False).hexdigest().upper().encode()
    parts = [
        EXTENSION + digest + struct.pack(">II", len(bare), at) + bare[at : at + _ROOM]
        for at in range(0, len(bare), _ROOM)
    ]
    return [STANDARD + _pointer(digest), *parts]


def join(packet: bytes | None, parts: list[bytes]) -> tuple[bytes | None, list[bytes]]:
    """Undo ``segments``: join the parts of an extended packet.

    Args:
        packet: the packet in the segment that begins with ``STANDARD``.
        parts: the contents of the segments that begin with ``EXTENSION``.

    Returns:
        The whole packet, and parts that do not belong to it. Packets that ``segments`` did not divide stay as they are.
    """
    found = _HAS_MORE.search(packet or b"")
    if packet is None or found is None or packet != _pointer(found[1]):
        return packet, parts
    whole, at = bytearray(), len(EXTENSION) + 40
    for part in sorted(parts, key=lambda part: part[at - 4 : at]):
        if part[len(EXTENSION) : at - 8] == found[1] and int.from_bytes(part[at - 4 : at], "big") == len(whole):
            whole += part[at:]
    if hashlib.md5(whole, usedforsecurity=False).hexdigest().upper().encode() != found[1]:
        return packet, parts
    return bytes(whole), [part for part in parts if part[len(EXTENSION) : at - 8] != found[1]]


def _pointer(digest: bytes) -> bytes:
    """A packet that only names the checksum of an extended packet."""
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="'
        + digest
        + b'"/></rdf:RDF></x:xmpmeta>'
    )


def _prefixes(packet: bytes, namespace: bytes) -> list[bytes]:
    found = re.findall(rb"xmlns:([\w.-]+)\s*=\s*[\"']" + re.escape(namespace) + rb"[\"']", packet)
    return list(dict.fromkeys(found))


def _drop(packet: bytes, prefix: bytes, name: bytes) -> bytes:
    """Remove the properties with this prefix whose names match, both as attributes and as elements."""
    full = re.escape(prefix) + b":(" + name + b")"
    packet = re.sub(rb"<" + full + rb"(?:\s[^>]*)?/>", b"", packet)
    packet = re.sub(rb"<" + full + rb"(?:\s[^>]*)?>.*?</" + re.escape(prefix) + rb":\1\s*>", b"", packet, flags=re.S)
    return re.sub(rb"\s" + full + rb"\s*=\s*(\"[^\"]*\"|'[^']*')", b"", packet)
