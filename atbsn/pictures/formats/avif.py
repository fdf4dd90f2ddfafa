"""AVIF, through Pillow: the extra ``[photos]``, which asks for a Pillow that has it."""

import io
import struct
from dataclasses import replace
from importlib import import_module
from mmap import mmap
from typing import BinaryIO

from PIL import Image

from atbsn.pictures import boxes, exif, xmp
from atbsn.pictures.colour import profile
from atbsn.pictures.formats.codec import Codec, Holds
from atbsn.pictures.formats.jpeg import MIN_QUALITY
from atbsn.pictures.metadata import Coding, Decoded, Metadata, Samples, check_single, missing
from atbsn.pictures.pillow import as_image, decoded, given, open_image, orientation_of, samples_of, upright_size


class Avif(Codec):
    """AVIF of 8 bits. Pillow reads 10 and 12 bits as 8; the log says so."""

    name = "AVIF"
    suffixes = (".avif",)
    holds = Holds(alpha=True, cicp=True, side=65536)
    library = "PIL._avif"

    def sniff(self, data: bytes | mmap, suffix: str) -> bool:
        return bool(boxes.kind(data) & {b"avif", b"avis"})

    def read_size(self, file: BinaryIO, page: int | None) -> tuple[int, int]:
        image = _open(file)
        return upright_size(image, orientation_of(_metadata(image)))

    def decode(self, data: bytes, page: int | None) -> Decoded:
        image, facts = _open(io.BytesIO(data)), boxes.facts(data)
        samples, warnings = samples_of(image)
        if facts.bits > 8:
            warnings += (f"its {facts.bits} bits are read as 8",)
        found = _metadata(image)
        packet, attached = xmp.without_attachments(found.xmp)
        found = replace(found, xmp=packet, cicp=None if found.icc else facts.cicp)
        warnings += tuple(f"its {name} is left out" for name in dict.fromkeys(attached + facts.attachments))
        return decoded(samples, found, orientation_of(found), warnings)

    def encode(self, samples: Samples, picture: Metadata, quality: int | None) -> bytes:
        """Encode as AVIF of quality 90, or of ``quality``."""
        _need_library()
        block = exif.without_orientation(picture.exif) if picture.exif else None  # else Pillow would rewrite all of it
        icc, _ = profile(picture, grey=False)  # AVIF holds grey as RGB
        options = given(exif=block, xmp=picture.xmp, icc_profile=None if picture.cicp else icc)
        file = io.BytesIO()
        as_image(samples).save(file, "AVIF", quality=quality or MIN_QUALITY, **options)
        if picture.cicp is None:
            return file.getvalue()
        data = bytearray(file.getvalue())
        place = boxes.facts(bytes(data)).nclx
        if place is None:
            raise ValueError("no place for the numbers of its colours")
        # Pillow always states sRGB. The planes are the same for any colours, and the box overrides the AV1 data.
        struct.pack_into(">HH", data, place, picture.cicp.primaries, picture.cicp.transfer)
        return bytes(data)


CODEC = Avif()


def _need_library() -> None:
    """Refuse with the remedy if this Pillow reads no AVIF."""
    try:
        import_module("PIL._avif")
    except ImportError:
        raise missing("AVIF", "pillow>=11.3") from None


def _open(file: BinaryIO) -> Image.Image:
    _need_library()
    image = open_image(file, "AVIF")
    check_single("an animated AVIF", getattr(image, "n_frames", 1))
    return image


def _metadata(image: Image.Image) -> Metadata:
    block = image.info.get("exif")
    return Metadata(
        icc=image.info.get("icc_profile"),
        exif=block and exif.PREFIX + block.removeprefix(exif.PREFIX),
        xmp=image.info.get("xmp"),
        coding=Coding("AVIF"),
    )
