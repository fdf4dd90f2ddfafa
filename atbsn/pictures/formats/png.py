"""PNG: its metadata are read from chunks, and inserted as chunks into an encoded file."""

import io
import struct
import zlib
from mmap import ACCESS_READ, mmap
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from atbsn.pictures import exif, xmp
from atbsn.pictures.chunks import MAX_TEXT, chunk, packet, raw_profile, sound, walk, xmp_text
from atbsn.pictures.formats.codec import Codec, Holds
from atbsn.pictures.metadata import CodePoints, Decoded, Metadata, RefusedError, Samples, check_single
from atbsn.pictures.pillow import as_image, decoded, open_image, orientation_of, samples_of, upright_size

_KEPT = (b"cHRM", b"gAMA", b"sRGB", b"mDCV", b"cLLI", b"pHYs", b"tEXt", b"zTXt", b"iTXt")
"""Chunks that are kept as they are: colours, mastering display, light levels, resolution, texts."""
_COLOURS = _KEPT[:3]
"""Chunks of colours, which a colour profile or ``cICP`` replaces."""
_BEHIND_HEADER = 8 + 25
"""Bytes of the signature and the chunk IHDR, behind which chunks are inserted."""


class Png(Codec):
    """PNG of 1 to 16 bits. Pillow decodes up to 8 bits, OpenCV 16."""

    name = "PNG"
    suffixes = (".png",)
    holds = Holds(bits=16, alpha=True, cicp=True)
    states_white = True

    def sniff(self, data: bytes | mmap, suffix: str) -> bool:
        return data[:8] == b"\x89PNG\r\n\x1a\n"

    def read_size(self, file: BinaryIO, page: int | None) -> tuple[int, int]:
        with mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            data: bytes | mmap = mapped
            try:
                image = _open(file)
            except UnidentifiedImageError:  # perhaps only because of a damaged ancillary chunk
                data, damaged = sound(mapped)
                if not damaged:
                    raise
                image = _open(io.BytesIO(data))
            return upright_size(image, orientation_of(_metadata(image, data)))

    def decode(self, data: bytes, page: int | None) -> Decoded:
        whole, damaged = sound(data)
        image = _open(io.BytesIO(whole))
        found = _metadata(image, whole)
        if whole[24] == 16:  # the bit depth in IHDR
            samples, warnings = _decode16(image, whole), tuple[str, ...]()
        else:
            _state_key(image, whole)
            samples, warnings = samples_of(image)
        return decoded(samples, found, orientation_of(found), damaged + warnings)

    def encode(self, samples: Samples, picture: Metadata, quality: int | None) -> bytes:
        data = _encode16(samples.values) if samples.values.dtype == np.uint16 else _encode8(samples)
        notes = [(kind[4:].encode(), body) for kind, body in picture.notes if kind.startswith("PNG:")]
        if picture.cicp or (samples.colours == 3 and picture.icc):  # they describe the colours completely
            notes = [(kind, body) for kind, body in notes if kind not in _COLOURS]
        chunks = []
        if picture.cicp:  # PNG has RGB, so the matrix is 0, whatever the source's was
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
            chunks.append((b"iTXt", xmp_text(picture.xmp)))
        return data[:_BEHIND_HEADER] + b"".join(chunk(*each) for each in chunks) + data[_BEHIND_HEADER:]


CODEC = Png()


def _open(file: BinaryIO) -> Image.Image:
    # Pillow's own limit of 1 MiB for a text or a profile is too small for files of some programs.
    PngImagePlugin.MAX_TEXT_CHUNK = MAX_TEXT
    PngImagePlugin.MAX_TEXT_MEMORY = 2 * MAX_TEXT
    try:
        image = open_image(file, "PNG")
    except ValueError as error:
        if "too large" in str(error):
            raise RefusedError(_TOO_LONG, "save it anew without it") from error
        raise
    check_single("an animated PNG", getattr(image, "n_frames", 1))
    return image


_TOO_LONG = f"a text or a profile in it is over the limit of {MAX_TEXT >> 20} MiB"


def _metadata(image: Image.Image, data: bytes | mmap) -> Metadata:
    """The metadata of an opened PNG, from chunks before and behind the pixels."""
    found = _Found()
    for kind, start, end in walk(data):
        if kind in (b"eXIf", b"cICP", *_KEPT):
            found.take(kind, data[start:end])
    return Metadata(
        icc=image.info.get("icc_profile"),
        cicp=found.cicp,
        exif=found.exif,
        xmp=found.xmp,
        iptc=found.iptc,
        notes=tuple(found.notes),
        dpi=image.info.get("dpi"),
    )


class _Found:
    """Collects the metadata of chunks. Standard chunks have priority over ImageMagick's texts, in any order."""

    def __init__(self) -> None:
        self.cicp: CodePoints | None = None
        self.exif: bytes | None = None
        self.xmp: bytes | None = None
        self.iptc: bytes | None = None
        self.notes: list[tuple[str, bytes]] = []

    def take(self, kind: bytes, body: bytes) -> None:
        """Add a chunk."""
        text, raw = packet(body) if kind == b"iTXt" else None, raw_profile(kind, body)
        if kind == b"eXIf":
            self.exif = exif.PREFIX + body.removeprefix(exif.PREFIX)
        elif kind == b"cICP":
            if len(body) == 4:
                self.cicp = CodePoints(body[0], body[1], body[2], bool(body[3]))
        elif text is not None:
            self.xmp = text
        elif raw is None or not self._take_raw(*raw):
            self.notes.append((f"PNG:{kind.decode()}", body))

    def _take_raw(self, name: str, content: bytes) -> bool:
        """Add a profile of ImageMagick; returns whether its text can be dropped, since it is written in another way."""
        if name == "iptc":
            self.iptc = content if content.startswith(b"8BIM") else self.iptc
            return False
        if name == "xmp" or (name == "app1" and content.startswith(xmp.STANDARD)):
            self.xmp = self.xmp or content.removeprefix(xmp.STANDARD)
            return True
        if name in ("exif", "app1"):
            self.exif = self.exif or exif.PREFIX + content.removeprefix(exif.PREFIX)
            return True
        return False


def _state_key(image: Image.Image, data: bytes | mmap) -> None:
    """Convert the transparent colour (tRNS) to the 8 bits of the samples, as Pillow does not always do.

    Of its 16 bits, only as many of the lowest as a sample has count (PNG, third edition, 11.3.2.1).
    """
    bits, colours = data[24], data[25]
    top = 2**bits - 1
    key = next((data[start:end] for kind, start, end in walk(data) if kind == b"tRNS"), b"")
    if colours == 0 and len(key) == 2:
        image.info["transparency"] = (int.from_bytes(key, "big") & top) * 255 // top
    elif colours == 2 and len(key) == 6:
        image.info["transparency"] = tuple(number & top for number in struct.unpack(">3H", key))


def _decode16(image: Image.Image, data: bytes | mmap) -> Samples:
    """Decode 16 bits. Pillow decodes grey. OpenCV decodes colours, but accepts cut-off data, so Pillow loads them first
    to check."""
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
    if values.shape[2] == 2:  # OpenCV cannot write grey with alpha
        values = values[..., [0, 0, 0, 1]]
    elif values.shape[2] >= 3:
        values = values[..., [2, 1, 0, 3][: values.shape[2]]]
    done, buffer = cv2.imencode(".png", values)
    if not done:
        raise ValueError("OpenCV cannot encode it as PNG")
    return buffer.tobytes()
