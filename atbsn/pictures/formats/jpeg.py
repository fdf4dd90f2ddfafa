"""JPEG: its quantisation tables, the segments with metadata, and data behind the picture."""

import io
import struct
from dataclasses import replace
from mmap import mmap
from typing import BinaryIO

import numpy as np
from PIL import UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from atbsn.pictures import xmp
from atbsn.pictures.colour import profile
from atbsn.pictures.formats.codec import Codec, Holds
from atbsn.pictures.metadata import Coding, Decoded, Metadata, RefusedError, Samples
from atbsn.pictures.pillow import (
    as_image,
    decoded,
    given,
    in_srgb,
    open_image,
    orientation_of,
    samples_of,
    upright_size,
)

MIN_QUALITY = 90
"""Lowest quality of a denoised picture, whatever that of its source. Chosen by hand."""
_PLAIN_QUALITY = 98
"""Quality of a JPEG whose source was another format. Chosen by hand."""
_STANDARD_SUMS = (3688, 5505)
"""Sums of the tables for luma and chroma of ITU-T T.81, K.1 and K.2, which are those of quality 50."""
_PHOTOSHOP = b"Photoshop 3.0\0"
"""Beginning of a segment with Photoshop's image resources."""
_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
"""Beginning of a segment with a gain map (ISO 21496-1)."""
_MAX_SEGMENT = 65533
"""Bytes: longest content of a segment, whose length has 16 bits and counts itself (T.81, B.1.1.4)."""
_END = b"\xff\xd9"
"""The marker EOI at the end of a picture."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of the header of a frame, whose first number is the bits of a sample (T.81, table B.1)."""
_JPEG_LS = 0xF7
"""Marker of the header of a JPEG-LS frame (ITU-T T.87, C.1.1)."""
_AT_ONCE = 2**20
"""Bytes that are searched for markers at a time. Chosen by hand."""


class Jpeg(Codec):
    """JPEG. In a file of several pictures, only the first one, the photograph, is read."""

    name = "JPEG"
    suffixes = (".jpg", ".jpeg", ".jfif", ".jpe")
    holds = Holds(side=65500)  # libjpeg's JPEG_MAX_DIMENSION

    def sniff(self, data: bytes | mmap, suffix: str) -> bool:
        return data[:3] == b"\xff\xd8\xff"

    def read_size(self, file: BinaryIO, page: int | None) -> tuple[int, int]:
        image = _open(file)
        return upright_size(image, orientation_of(_metadata(image, turned=False)))

    def decode(self, data: bytes, page: int | None) -> Decoded:
        image = _open(io.BytesIO(data))
        end = end_of_picture(data)
        warnings: tuple[str, ...] = ()
        try:
            samples, warnings = samples_of(image)
        except OSError:
            if end is not None:
                raise
            image = _open(io.BytesIO(data + _END))
            samples, warnings = samples_of(image)
            warnings += (_cut_off(samples.values),)
        orientation = orientation_of(_metadata(image, turned=False))
        found = _metadata(image, turned=orientation >= 5)
        packet, attached = xmp.without_attachments(found.xmp)
        attached += _attached(image, data, end)
        warnings += tuple(f"its {name} is left out" for name in dict.fromkeys(attached))
        return decoded(samples, in_srgb(image, replace(found, xmp=packet)), orientation, warnings)

    def encode(self, samples: Samples, picture: Metadata, quality: int | None) -> bytes:
        """Encode with the quantisation tables of the source, but not below quality 90; or with ``quality``."""
        coding = picture.coding if picture.coding is not None and picture.coding.format == "JPEG" else None
        options: dict[str, object] = {"quality": quality or _PLAIN_QUALITY, "subsampling": 0}
        if coding is not None:
            options |= {"subsampling": coding.subsampling, "progressive": coding.progressive}
            if quality is None and quality_of(coding.tables) >= MIN_QUALITY:
                options["qtables"] = [list(table) for table in coding.tables]
                options["quality"] = -1
            elif quality is None:
                options["quality"] = MIN_QUALITY
        icc, _ = profile(picture, samples.colours == 1)
        options |= given(exif=picture.exif, icc_profile=icc, dpi=picture.dpi)
        file = io.BytesIO()
        as_image(samples).save(file, "JPEG", extra=_segments(picture), **options)
        return file.getvalue()


CODEC = Jpeg()


def quality_of(tables: tuple[tuple[int, ...], ...]) -> int:
    """The quality, 1 to 100, whose standard tables have the same sums as ``tables``: the lower of luma and chroma.

    With the standard table T at quality 50, quality q >= 50 has T (100 - q) / 50, and q < 50 has T 50 / q.
    """
    scale = max(100 * sum(table) / standard for table, standard in zip(tables, _STANDARD_SUMS, strict=False))
    return round(min(100, max(1, 100 - scale / 2 if scale <= 100 else 5000 / scale)))


def end_of_picture(data: bytes) -> int | None:
    """The position where the first picture in ``data`` ends; None if it is cut off or damaged.

    Markers are found without decoding: in coded data 0xFF is followed by 0 or a restart marker (T.81, B.1.1.2).
    """
    at = 2
    while (behind := _behind_marker(data, at)) is not None:
        kind, at = data[behind - 1], behind
        if kind == _END[1]:
            return at
        if kind not in (0x01, 0xD8):  # those without a length
            at += int.from_bytes(data[at : at + 2], "big")
    return None


def _behind_marker(data: bytes, start: int) -> int | None:
    """The position behind the next marker: 0xFF and a byte that is not 0, not 0xFF and not a restart marker.

    NumPy searches, so that other threads can run: a photograph has tens of thousands of bytes 0xFF.
    """
    for at in range(start, len(data) - 1, _AT_ONCE):
        part = np.frombuffer(data, np.uint8, min(_AT_ONCE + 1, len(data) - at), at)
        places = np.flatnonzero(part[:-1] == 0xFF)
        kinds = part[places + 1]
        found = places[(kinds != 0) & (kinds != 0xFF) & ((kinds < 0xD0) | (kinds > 0xD7))]
        if len(found):
            return at + int(found[0]) + 2
    return None


def _open(file: BinaryIO) -> JpegImageFile:
    """Open the photograph. Stereo pairs and panoramas are refused; previews, gain maps and depth maps are ignored."""
    try:
        image = open_image(file, "JPEG")  # also opens files of several pictures, which Pillow calls MPO
    except UnidentifiedImageError as error:
        file.seek(0)
        kind = _kind_not_read(file.read())
        if kind:
            raise RefusedError(f"{kind}, which is not decoded here", "convert it to PNG or TIFF") from error
        raise
    assert isinstance(image, JpegImageFile)
    entries = getattr(image, "mpinfo", {}).get(0xB002, [])
    kinds = [entry["Attribute"]["MPType"] for entry in entries[1:]]
    if any(kind.startswith("Multi-Frame") for kind in kinds):
        raise RefusedError(f"a stereo pair or a panorama of {len(entries)} pictures", "save each as a file of its own")
    return image


def _kind_not_read(data: bytes) -> str | None:
    """The kind of a JPEG that Pillow does not open; None if its kind is not the reason."""
    at = 2
    while (behind := _behind_marker(data, at)) is not None and behind + 3 <= len(data):
        kind = data[behind - 1]
        if kind == _JPEG_LS:
            return "a JPEG-LS"
        if kind in _FRAMES:
            bits = data[behind + 2]
            return f"a JPEG of {bits} bits" if bits != 8 else None
        at = behind + int.from_bytes(data[behind : behind + 2], "big")
    return None


def _cut_off(values: np.ndarray) -> str:
    """The warning about a picture whose end is missing. libjpeg fills the rest with the last colour."""
    height = len(values)
    flat = (values == values[:, :1]).all(axis=(1, 2)) & (values[:, 0] == values[-1, 0]).all(axis=1)
    rows = height if flat.all() else int(flat[::-1].argmin())
    if rows == height:
        raise ValueError("cut off before its first row")
    blank = f", the lowest {rows} of {height} rows are blank" if rows > 1 else ""
    return f"its file is cut off: what is there is used{blank}"


def _metadata(image: JpegImageFile, turned: bool) -> Metadata:
    """The metadata of an opened JPEG; ``turned``: whether its rows became columns."""
    segments = image.applist
    packets = [body[len(xmp.STANDARD) :] for kind, body in segments if kind == "APP1" and body.startswith(xmp.STANDARD)]
    parts = [body for kind, body in segments if kind == "APP1" and body.startswith(xmp.EXTENSION)]
    packet, parts = xmp.join(packets[0] if packets else None, parts)
    iptc = b"".join(
        body[len(_PHOTOSHOP) :] for kind, body in segments if kind == "APP13" and body.startswith(_PHOTOSHOP)
    )
    notes = [("JPEG:COM", body) for kind, body in segments if kind == "COM"]
    notes += [("JPEG:APP1", body) for body in parts]
    return Metadata(
        icc=image.info.get("icc_profile"),
        exif=image.info.get("exif"),
        xmp=packet,
        iptc=iptc or None,
        notes=tuple(notes),
        dpi=image.info.get("dpi") if image.info.get("jfif_unit") else None,
        coding=_coding(image, turned) if image.mode in ("L", "RGB") else None,
    )


def _coding(image: JpegImageFile, turned: bool) -> Coding | None:
    """How an opened JPEG was coded; None for a lossless one, which has no tables."""
    layers: list[tuple[int, int, int, int]] = image.layer
    if any(number not in image.quantization for _, _, _, number in layers):
        return None
    tables = [np.reshape(image.quantization[number], (8, 8)) for _, _, _, number in layers]
    if turned:
        tables = [table.T for table in tables]
    if len(tables) == 3 and np.array_equal(tables[1], tables[2]):
        tables = tables[:2]
    factors: list[tuple[int, int]] = [(across, down) for _, across, down, _ in layers]
    known: dict[tuple[tuple[int, int], ...], int] = {((2, 1), (1, 1), (1, 1)): 1, ((2, 2), (1, 1), (1, 1)): 2}
    if turned:  # halved along columns; Pillow cannot write that, so chroma is not halved at all
        known = {((2, 2), (1, 1), (1, 1)): 2}
    subsampling = known.get(tuple(factors), 0)
    return Coding(
        "JPEG", tuple(tuple(map(int, table.ravel())) for table in tables), subsampling, "progressive" in image.info
    )


def _attached(image: JpegImageFile, data: bytes, end: int | None) -> tuple[str, ...]:
    """Attachments of the photograph, found behind it or in its segments, in words. Previews are not listed."""
    found = []
    if any(body.startswith(_GAIN_MAP) for kind, body in image.applist if kind == "APP2"):
        found.append("gain map (HDR)")
    if end is not None and end < len(data):
        behind = data[end : end + 64]
        if behind[4:8] == b"ftyp" or data.find(b"MotionPhoto_Data", end) >= 0:
            found.append("video (motion photo)")
        if data.find(b"http://ns.adobe.com/hdr-gain-map/1.0/", end) >= 0:
            found.append("gain map (HDR)")
        if data.find(b"urn:com:apple:photo:2020:aux:hdrgainmap", end) >= 0:
            found.append("gain map (HDR)")
    return tuple(found)


def _segments(picture: Metadata) -> bytes:
    """The segments with XMP, IPTC and comments."""
    bodies: list[tuple[int, bytes]] = []
    if picture.xmp:
        bodies += [(0xE1, body) for body in xmp.segments(picture.xmp)]
    bodies += [(0xE1, body) for kind, body in picture.notes if kind == "JPEG:APP1"]
    room = _MAX_SEGMENT - len(_PHOTOSHOP)
    resources = picture.iptc or b""
    bodies += [(0xED, _PHOTOSHOP + resources[at : at + room]) for at in range(0, len(resources), room)]
    bodies += [(0xFE, body) for kind, body in picture.notes if kind == "JPEG:COM"]
    return b"".join(struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body for kind, body in bodies)
