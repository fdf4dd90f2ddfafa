"""PNG: its chunks, read without the pixels and set into what was encoded."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from atbsn.pictures import exif
from atbsn.pictures.formats import Metadata

_KEPT = (b"cHRM", b"gAMA", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"pHYs", b"tEXt", b"zTXt", b"iTXt")
_COLOURS = _KEPT[:6]
_XMP = b"XML:com.adobe.xmp\0"
_LONGEST_XMP = 2**24  # bytes that a compressed packet may unpack to
_BEHIND_HEADER = 8 + 25  # the signature and IHDR


def metadata(image: Image.Image, file: BinaryIO) -> Metadata:
    """What an opened PNG says besides its pixels, wherever it stands in the file."""
    found, notes, xmp = None, [], None
    for kind, body in _chunks(file, (b"eXIf", *_KEPT)):
        packet = _packet(body) if kind == b"iTXt" and xmp is None else None
        if packet is not None:
            xmp = packet
        elif kind == b"eXIf":
            found = exif.PREFIX + body.removeprefix(exif.PREFIX)
        else:
            notes.append((f"PNG:{kind.decode()}", body))
    return Metadata(
        icc=image.info.get("icc_profile"), exif=found, xmp=xmp, notes=tuple(notes), dpi=image.info.get("dpi")
    )


def encode(samples: np.ndarray, picture: Metadata) -> bytes:
    """Encode (H, W, C) samples of 8 or 16 bits."""
    data = _encode16(samples) if samples.dtype == np.uint16 else _encode8(samples)
    notes = [(kind[4:].encode(), body) for kind, body in picture.notes if kind.startswith("PNG:")]
    if samples.shape[2] >= 3 and picture.icc:  # the profile says it all
        notes = [(kind, body) for kind, body in notes if kind not in _COLOURS]
    chunks = [(b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc))] if picture.icc else []
    chunks += notes
    if picture.dpi and b"pHYs" not in dict(notes):
        across, down = (round(value / 0.0254) for value in picture.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    if picture.exif:
        chunks.append((b"eXIf", picture.exif.removeprefix(exif.PREFIX)))
    if picture.xmp:
        chunks.append((b"iTXt", _XMP + bytes(4) + picture.xmp))
    return data[:_BEHIND_HEADER] + b"".join(_chunk(*chunk) for chunk in chunks) + data[_BEHIND_HEADER:]


def _chunks(file: BinaryIO, kinds: tuple[bytes, ...]) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of these kinds; the others are skipped unread. The file's position stays."""
    position = file.tell()
    file.seek(8)
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind in kinds:
            body = file.read(length)
            if len(body) == length:
                yield kind, body
            file.seek(4, os.SEEK_CUR)
        else:
            file.seek(length + 4, os.SEEK_CUR)
    file.seek(position)


def _packet(body: bytes) -> bytes | None:
    """The XMP packet in an iTXt chunk; None for other texts."""
    if not body.startswith(_XMP) or len(body) < len(_XMP) + 4:
        return None
    compressed, rest = body[len(_XMP)], body[len(_XMP) + 2 :]
    _, _, packet = rest.split(b"\0", 2) if rest.count(b"\0") >= 2 else (b"", b"", b"")
    if not compressed:
        return packet
    unpacker = zlib.decompressobj()
    try:
        packet = unpacker.decompress(packet, _LONGEST_XMP)
    except zlib.error:
        return None
    return packet if unpacker.eof else None


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _encode8(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples).save(file, "PNG")
    return file.getvalue()


def _encode16(samples: np.ndarray) -> bytes:
    if samples.shape[2] == 2:  # OpenCV writes no grey with alpha
        samples = samples[..., [0, 0, 0, 1]]
    elif samples.shape[2] >= 3:
        samples = samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    done, buffer = cv2.imencode(".png", samples)
    if not done:
        raise ValueError("OpenCV cannot encode it as PNG")
    return buffer.tobytes()
