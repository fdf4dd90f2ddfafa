"""PNG: its chunks, read without the pixels and set into what was encoded."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from mmap import mmap
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, PngImagePlugin

from atbsn.pictures import exif
from atbsn.pictures.formats.codec import Codec, Holds
from atbsn.pictures.metadata import CodePoints, Decoded, Metadata, RefusedError, Samples, check_single
from atbsn.pictures.pillow import as_image, decoded, open_image, orientation_of, samples_of, upright_size

_KEPT = (b"cHRM", b"gAMA", b"sRGB", b"mDCV", b"cLLI", b"pHYs", b"tEXt", b"zTXt", b"iTXt")
_COLOURS = _KEPT[:3]
_XMP = b"XML:com.adobe.xmp\0"
_LONGEST_TEXT = 2**26  # bytes that a packet, a text or a profile may unpack to: 64 MiB
_BEHIND_HEADER = 8 + 25  # the signature and IHDR


class Png(Codec):
    """PNG of 1 to 16 bits; Pillow decodes up to 8 of them, OpenCV 16."""

    name = "PNG"
    suffixes = (".png",)
    holds = Holds(bits=16, alpha=True, cicp=True)
    states_white = True

    def sniff(self, data: bytes | mmap, suffix: str) -> bool:
        return data[:8] == b"\x89PNG\r\n\x1a\n"

    def read_size(self, file: BinaryIO, page: int | None) -> tuple[int, int]:
        image = _open(file)
        return upright_size(image, orientation_of(_metadata(image, file)))

    def decode(self, data: bytes, page: int | None) -> Decoded:
        file = io.BytesIO(data)
        image = _open(file)
        found = _metadata(image, file)
        if data[24] == 16:  # the bit depth in IHDR
            samples, warnings = _decode16(image, data), tuple[str, ...]()
        else:
            samples, warnings = samples_of(image)
        return decoded(samples, found, orientation_of(found), warnings)

    def encode(self, samples: Samples, picture: Metadata, quality: int | None) -> bytes:
        data = _encode16(samples.values) if samples.values.dtype == np.uint16 else _encode8(samples)
        notes = [(kind[4:].encode(), body) for kind, body in picture.notes if kind.startswith("PNG:")]
        if picture.cicp or (samples.colours == 3 and picture.icc):  # which say it all
            notes = [(kind, body) for kind, body in notes if kind not in _COLOURS]
        chunks = []
        if picture.cicp:  # of RGB: the matrix of another format's planes is none of ours
            numbers = picture.cicp._replace(matrix=0)
            chunks.append((b"cICP", bytes([*numbers[:3], int(numbers.full_range)])))
        if picture.icc:
            chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc)))
        chunks += notes
        if picture.dpi and b"pHYs" not in dict(notes):
            across, down = (round(value / 0.0254) for value in picture.dpi)
            chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
        if picture.exif:
            chunks.append((b"eXIf", picture.exif.removeprefix(exif.PREFIX)))
        if picture.xmp:
            chunks.append((b"iTXt", _XMP + bytes(4) + picture.xmp))
        return data[:_BEHIND_HEADER] + b"".join(_chunk(*chunk) for chunk in chunks) + data[_BEHIND_HEADER:]


CODEC = Png()


def _open(file: BinaryIO) -> Image.Image:
    # Pillow's own limit of 1 MiB for a text or a profile is less than some programs write, and we keep.
    PngImagePlugin.MAX_TEXT_CHUNK = _LONGEST_TEXT
    PngImagePlugin.MAX_TEXT_MEMORY = 2 * _LONGEST_TEXT
    try:
        image = open_image(file, "PNG")
    except ValueError as error:
        if "too large" in str(error):
            raise RefusedError(_TOO_LONG, "save it anew without it") from error
        raise
    check_single("an animated PNG", getattr(image, "n_frames", 1))
    return image


_TOO_LONG = f"a text or a profile in it is over the limit of {_LONGEST_TEXT >> 20} MiB"


def _metadata(image: Image.Image, file: BinaryIO) -> Metadata:
    """What an opened PNG says besides its pixels, wherever it stands in the file."""
    found, notes, xmp, cicp = None, [], None, None
    for kind, body in _chunks(file, (b"eXIf", b"cICP", *_KEPT)):
        packet = _packet(body) if kind == b"iTXt" and xmp is None else None
        if packet is not None:
            xmp = packet
        elif kind == b"eXIf":
            found = exif.PREFIX + body.removeprefix(exif.PREFIX)
        elif kind == b"cICP" and len(body) == 4:
            cicp = CodePoints(body[0], body[1], body[2], bool(body[3]))
        elif kind != b"cICP":
            notes.append((f"PNG:{kind.decode()}", body))
    return Metadata(
        icc=image.info.get("icc_profile"),
        cicp=cicp,
        exif=found,
        xmp=xmp,
        notes=tuple(notes),
        dpi=image.info.get("dpi"),
    )


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
        packet = unpacker.decompress(packet, _LONGEST_TEXT)
    except zlib.error:
        return None
    return packet if unpacker.eof else None


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _decode16(image: Image.Image, data: bytes) -> Samples:
    """Pillow checks the data, which OpenCV would hand out by halves, and decodes grey."""
    image.load()
    key = image.info.get("transparency")
    if image.mode.startswith("I"):
        grey = np.array(image).astype(np.uint16)[..., None]
        if key is None:
            return Samples(grey)
        opaque = np.where(grey == key, 0, 65535).astype(np.uint16)
        return Samples(np.concatenate([grey, opaque], axis=2), alpha=True)
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.shape != (image.height, image.width, values.shape[-1]):
        raise ValueError("OpenCV cannot decode it")
    if data[25] == 4:  # the colour type in IHDR: grey with alpha
        return Samples(values[..., [0, 3]], alpha=True)
    return Samples(values[..., [2, 1, 0, 3][: values.shape[2]]], alpha=values.shape[2] == 4)


def _encode8(samples: Samples) -> bytes:
    file = io.BytesIO()
    as_image(samples).save(file, "PNG")
    return file.getvalue()


def _encode16(values: np.ndarray) -> bytes:
    if values.shape[2] == 2:  # OpenCV writes no grey with alpha
        values = values[..., [0, 0, 0, 1]]
    elif values.shape[2] >= 3:
        values = values[..., [2, 1, 0, 3][: values.shape[2]]]
    done, buffer = cv2.imencode(".png", values)
    if not done:
        raise ValueError("OpenCV cannot encode it as PNG")
    return buffer.tobytes()
