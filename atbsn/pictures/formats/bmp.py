"""BMP, through Pillow."""

import io
import struct
from mmap import mmap
from typing import BinaryIO

from atbsn.pictures.formats.codec import Codec, Holds
from atbsn.pictures.metadata import Decoded, Metadata, Samples
from atbsn.pictures.pillow import as_image, decoded, given, open_image, samples_of

_EMBEDDED = b"DEBM"
"""PROFILE_EMBEDDED: the value of bV5CSType in a BITMAPV5HEADER for a profile in the file."""


class Bmp(Codec):
    """BMP. Beside the pixels, only the resolution is written. A profile in a file of version 5 is read."""

    name = "BMP"
    suffixes = (".bmp", ".dib")
    holds = Holds(icc=False, texts=False)

    def sniff(self, data: bytes | mmap, suffix: str) -> bool:
        return data[:2] == b"BM"

    def read_size(self, file: BinaryIO, page: int | None) -> tuple[int, int]:
        width, height = open_image(file, "BMP").size
        return height, width

    def decode(self, data: bytes, page: int | None) -> Decoded:
        image = open_image(io.BytesIO(data), "BMP")
        samples, warnings = samples_of(image)
        return decoded(samples, Metadata(icc=_profile(data), dpi=image.info.get("dpi")), warnings=warnings)

    def encode(self, samples: Samples, picture: Metadata, quality: int | None) -> bytes:
        file = io.BytesIO()
        as_image(samples).save(file, "BMP", **given(dpi=picture.dpi))
        return file.getvalue()


CODEC = Bmp()


def _profile(data: bytes) -> bytes | None:
    (header,) = struct.unpack_from("<I", data, 14)
    if header != 124 or data[14 + 56 : 14 + 60] != _EMBEDDED:
        return None
    start, length = struct.unpack_from("<II", data, 14 + 112)
    return data[14 + start : 14 + start + length] or None
