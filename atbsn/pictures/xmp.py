"""XMP packets, kept byte for byte but for what is no longer true.

The formats are those of Adobe's "XMP Specification", parts 1 (the packet) and 3 (its places in files).
"""

import hashlib
import re
import struct

STANDARD = b"http://ns.adobe.com/xap/1.0/\0"
EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
"""Headers of JPEG's segments."""
_ROOM = 65533 - len(EXTENSION) - 32 - 8  # bytes of an extended packet in one segment: part 3, 1.1.3.1
_HAS_MORE = re.compile(rb"xmpNote:HasExtendedXMP\s*(?:=\s*[\"']|>)\s*([0-9A-Fa-f]{32})")

_CONTAINER = b"http://ns.google.com/photos/1.0/container/"
_GAIN_MAP = (b"http://ns.adobe.com/hdr-gain-map/1.0/", b"http://ns.apple.com/HDRGainMap/1.0/")
_CAMERA = b"http://ns.google.com/photos/1.0/camera/"
_MOTION = (b"MotionPhoto", b"MicroVideo")


def upright(packet: bytes | None) -> bytes | None:
    """The packet byte for byte, but with orientation 1."""
    return re.sub(rb"(tiff:Orientation(?:\s*=\s*[\"']|>))[1-8]", rb"\g<1>1", packet) if packet else None


def orientation(packet: bytes | None) -> int:
    """The orientation a packet names, for files whose EXIF names none."""
    found = re.search(rb"tiff:Orientation(?:\s*=\s*[\"']|>)([1-8])", packet or b"")
    return int(found[1]) if found else 1


def without_attachments(packet: bytes | None) -> tuple[bytes | None, tuple[str, ...]]:
    """The packet without what it says of pictures and videos behind the picture, and the names of these.

    They are not written, and whoever believed the packet would look for them in vain.
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
    """The bodies of the APP1 segments of a JPEG that hold the packet: one, or an extended packet in several."""
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
    """The whole of a packet that ``segments`` had divided, and the parts that are left.

    Args:
        packet: in the segment with the header ``STANDARD``.
        parts: the bodies of those with the header ``EXTENSION``.
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
    """The packet without the properties of this prefix whose names match, as attributes and as elements."""
    full = re.escape(prefix) + b":(" + name + b")"
    packet = re.sub(rb"<" + full + rb"(?:\s[^>]*)?/>", b"", packet)
    packet = re.sub(rb"<" + full + rb"(?:\s[^>]*)?>.*?</" + re.escape(prefix) + rb":\1\s*>", b"", packet, flags=re.S)
    return re.sub(rb"\s" + full + rb"\s*=\s*(\"[^\"]*\"|'[^']*')", b"", packet)
