"""WebP, through Pillow."""

import io
from mmap import mmap
from typing import BinaryIO

from PIL import Image

from atbsn.pictures import exif
from atbsn.pictures.colour import profile
from atbsn.pictures.formats.codec import Codec, Holds
from atbsn.pictures.metadata import Coding, Decoded, Metadata, Samples, check_single
from atbsn.pictures.pillow import as_image, decoded, given, open_image, orientation_of, samples_of, upright_size

_LOSSY = 95
"""Quality of a WebP whose source was a lossy WebP, whose quality cannot be told from the file. Chosen by hand."""


class Webp(Codec):
    """WebP. It is written without loss, unless its source was a lossy WebP or ``quality`` is given."""

    name = "WebP"
    suffixes = (".webp",)
    holds = Holds(alpha=True, side=16383)  # 14 bits in the header

    def sniff(self, data: bytes | mmap, suffix: str) -> bool:
        return data[:4] == b"RIFF" and data[8:12] == b"WEBP"

    def read_size(self, file: BinaryIO, page: int | None) -> tuple[int, int]:
        image = _open(file)
        return upright_size(image, orientation_of(_metadata(image)))

    def decode(self, data: bytes, page: int | None) -> Decoded:
        image = _open(io.BytesIO(data))
        samples, warnings = samples_of(image)
        found = _metadata(image, Coding("WEBP", lossless=_is_lossless(data)))
        return decoded(samples, found, orientation_of(found), warnings)

    def encode(self, samples: Samples, picture: Metadata, quality: int | None) -> bytes:
        lossy = picture.coding is not None and picture.coding.format == "WEBP" and not picture.coding.lossless
        options: dict[str, object] = {"quality": quality or _LOSSY} if lossy or quality else {"lossless": True}
        icc, _ = profile(picture, grey=False)  # WebP holds grey as RGB
        options |= given(icc_profile=icc, exif=picture.exif, xmp=picture.xmp)
        file = io.BytesIO()
        as_image(samples).save(file, "WEBP", exact=True, **options)
        return file.getvalue()


CODEC = Webp()


def _open(file: BinaryIO) -> Image.Image:
    image = open_image(file, "WEBP")
    check_single("an animated WebP", getattr(image, "n_frames", 1))
    return image


def _metadata(image: Image.Image, coding: Coding | None = None) -> Metadata:
    block = image.info.get("exif")
    return Metadata(
        icc=image.info.get("icc_profile"),
        exif=block and exif.PREFIX + block.removeprefix(exif.PREFIX),
        xmp=image.info.get("xmp"),
        coding=coding,
    )


def _is_lossless(data: bytes) -> bool:
    position = 12
    while position + 8 <= len(data):
        kind = data[position : position + 4]
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8L"
        position += 8 + (int.from_bytes(data[position + 4 : position + 8], "little") + 1 & ~1)
    return False
