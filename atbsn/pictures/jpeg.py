"""JPEG: its quantisation tables, and the segments that describe the picture."""

import io
import re
import struct

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from atbsn.pictures.formats import Coding, Metadata, RefusedError

LEAST_QUALITY = 90
"""A denoised picture is not coded more coarsely than this, whatever its source was."""
_PLAIN_QUALITY = 98
"""Of a JPEG whose source was none."""
_STANDARD_SUMS = (3688, 5505)
"""Of the luma and the chroma table of ITU-T T.81, K.1 and K.2: quality 50."""
_XMP, _MORE_XMP, _PHOTOSHOP = (
    b"http://ns.adobe.com/xap/1.0/\0",
    b"http://ns.adobe.com/xmp/extension/\0",
    b"Photoshop 3.0\0",
)
_LONGEST = 65533  # bytes in a segment
_IPTC_RESOURCE = 0x0404


def quality(tables: tuple[tuple[int, ...], ...]) -> int:
    """The quality, 1 to 100, whose standard tables have the sums of ``tables``: of luma or chroma, the lower.

    With the standard table T at quality 50, quality q >= 50 has T (100 - q) / 50, and q < 50 has T 50 / q.
    """
    scale = max(100 * sum(table) / standard for table, standard in zip(tables, _STANDARD_SUMS, strict=False))
    return round(min(100, max(1, 100 - scale / 2 if scale <= 100 else 5000 / scale)))


def metadata(image: Image.Image, turned: bool) -> Metadata:
    """What an opened JPEG says besides its pixels; ``turned``: its rows became columns."""
    assert isinstance(image, JpegImageFile)
    segments = image.applist
    xmp = [body[len(_XMP) :] for kind, body in segments if kind == "APP1" and body.startswith(_XMP)]
    iptc = b"".join(
        body[len(_PHOTOSHOP) :] for kind, body in segments if kind == "APP13" and body.startswith(_PHOTOSHOP)
    )
    notes = [("JPEG:COM", body) for kind, body in segments if kind == "COM"]
    notes += [("JPEG:APP1", body) for kind, body in segments if kind == "APP1" and body.startswith(_MORE_XMP)]
    return Metadata(
        icc=image.info.get("icc_profile"),
        exif=image.info.get("exif"),
        xmp=xmp[0] if xmp else None,
        iptc=iptc or None,
        notes=tuple(notes),
        dpi=image.info.get("dpi") if image.info.get("jfif_unit") else None,
        coding=_coding(image, turned) if image.mode in ("L", "RGB") else None,
    )


def check_frames(image: Image.Image) -> None:
    """Refuse stereo pairs and panoramas; a preview, a gain map or a depth map behind the photograph is none."""
    entries = getattr(image, "mpinfo", {}).get(0xB002, [])
    kinds = [entry["Attribute"]["MPType"] for entry in entries[1:]]
    if any(kind.startswith("Multi-Frame") for kind in kinds):
        raise RefusedError(f"a stereo pair or a panorama of {len(entries)} pictures", "save each as a file of its own")


def encode(image: Image.Image, picture: Metadata, wanted: int | None) -> bytes:
    """Encode an L or RGB image.

    Args:
        wanted: quality, 1 to 100; None: the tables of the source, but none coarser than quality 90.
    """
    coding = picture.coding if picture.coding is not None and picture.coding.format == "JPEG" else None
    options: dict[str, object] = {"quality": wanted or _PLAIN_QUALITY, "subsampling": 0}
    if coding is not None:
        options |= {"subsampling": coding.subsampling, "progressive": coding.progressive}
        if wanted is None and quality(coding.tables) >= LEAST_QUALITY:
            options["qtables"] = [list(table) for table in coding.tables]
            options["quality"] = -1
        elif wanted is None:
            options["quality"] = LEAST_QUALITY
    if picture.exif:
        options["exif"] = picture.exif
    if picture.icc:
        options["icc_profile"] = picture.icc
    if picture.dpi:
        options["dpi"] = picture.dpi
    file = io.BytesIO()
    image.save(file, "JPEG", extra=_segments(picture), **options)
    return file.getvalue()


def wrap_iptc(record: bytes) -> bytes:
    """An IPTC record as Photoshop's image resource."""
    return b"8BIM" + struct.pack(">H2xI", _IPTC_RESOURCE, len(record)) + record + bytes(len(record) % 2)


def iptc_record(resources: bytes | None) -> bytes | None:
    """The IPTC record in Photoshop's image resources."""
    position = 0
    while resources and resources[position : position + 4] == b"8BIM" and position + 12 <= len(resources):
        kind, name = struct.unpack_from(">HB", resources, position + 4)
        position += 6 + (name + 2 & ~1)
        if position + 4 > len(resources):
            break
        (length,) = struct.unpack_from(">I", resources, position)
        if kind == _IPTC_RESOURCE:
            return resources[position + 4 : position + 4 + length]
        position += 4 + (length + 1 & ~1)
    return None


def upright_xmp(xmp: bytes | None) -> bytes | None:
    """The packet byte for byte, but with orientation 1."""
    return re.sub(rb"(tiff:Orientation(?:\s*=\s*[\"']|>))[1-8]", rb"\g<1>1", xmp) if xmp else None


def xmp_orientation(xmp: bytes | None) -> int:
    """The orientation an XMP packet names, for files whose EXIF names none."""
    found = re.search(rb"tiff:Orientation(?:\s*=\s*[\"']|>)([1-8])", xmp or b"")
    return int(found[1]) if found else 1


def _coding(image: JpegImageFile, turned: bool) -> Coding:
    layers: list[tuple[int, int, int, int]] = image.layer
    tables = [np.reshape(image.quantization[number], (8, 8)) for _, _, _, number in layers]
    if turned:
        tables = [table.T for table in tables]
    if len(tables) == 3 and np.array_equal(tables[1], tables[2]):
        tables = tables[:2]
    factors: list[tuple[int, int]] = [(across, down) for _, across, down, _ in layers]
    known: dict[tuple[tuple[int, int], ...], int] = {((2, 1), (1, 1), (1, 1)): 1, ((2, 2), (1, 1), (1, 1)): 2}
    if turned:  # halved along columns, which Pillow does not write: then not at all
        known = {((2, 2), (1, 1), (1, 1)): 2}
    subsampling = known.get(tuple(factors), 0)
    return Coding(
        "JPEG", tuple(tuple(map(int, table.ravel())) for table in tables), subsampling, "progressive" in image.info
    )


def _segments(picture: Metadata) -> bytes:
    bodies: list[tuple[int, bytes]] = []
    if picture.xmp:
        bodies.append((0xE1, _XMP + picture.xmp))
    bodies += [(0xE1, body) for kind, body in picture.notes if kind == "JPEG:APP1"]
    room = _LONGEST - len(_PHOTOSHOP)
    resources = picture.iptc or b""
    bodies += [(0xED, _PHOTOSHOP + resources[at : at + room]) for at in range(0, len(resources), room)]
    bodies += [(0xFE, body) for kind, body in picture.notes if kind == "JPEG:COM"]
    if any(len(body) > _LONGEST for _, body in bodies):
        raise ValueError("its XMP is too long for a JPEG")
    return b"".join(struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body for kind, body in bodies)
