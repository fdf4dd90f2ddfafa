"""HEIC and HEIF, through pillow-heif: the extra ``[photos]``."""

import io
from dataclasses import replace
from mmap import mmap
from typing import Any, BinaryIO

import numpy as np

from atbsn.pictures import boxes, exif, xmp
from atbsn.pictures.colour import profile
from atbsn.pictures.formats.codec import Codec, Holds
from atbsn.pictures.formats.jpeg import MIN_QUALITY
from atbsn.pictures.metadata import (
    CodePoints,
    Coding,
    Decoded,
    Metadata,
    RefusedError,
    Samples,
    check_pixels,
    choose_page,
    missing,
)
from atbsn.pictures.pillow import given

_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}
"""Brands of HEIF files (ISO/IEC 23008-12)."""
_FAST = {"preset": "ultrafast"}
"""Parameters of the encoder x265. Its default preset takes minutes for a photograph."""
_CHROMA = {444: 0, 422: 1, 420: 2}
"""``Coding.subsampling`` for pillow-heif's names of the chroma formats."""


class Heif(Codec):
    """HEIC of 8 bits; 10 and 12 bits are read as 16."""

    name = "HEIC"
    suffixes = (".heic", ".heif", ".hif")
    holds = Holds(bits=16, alpha=True, cicp=True, side=16384)  # of x265
    library = "pillow_heif"

    def sniff(self, data: bytes | mmap, suffix: str) -> bool:
        brands = boxes.kind(data)
        return bool(brands & _BRANDS) and not brands & {b"avif", b"avis", b"crx "}

    def read_size(self, file: BinaryIO, page: int | None) -> tuple[int, int]:
        frame, _ = _open(file, page)
        width, height = frame.size
        return height, width

    def decode(self, data: bytes, page: int | None) -> Decoded:
        frame, warnings = _open(io.BytesIO(data), page)
        values = np.atleast_3d(_pixels(frame))
        if values.shape[2] == 4 and "chroma" not in frame.info:  # grey with alpha, which pillow-heif gives as RGBA
            values = values[..., [0, 3]]
        bits = frame.info["bit_depth"]
        if values.dtype == np.uint16:  # pillow-heif leaves the low bits 0; fill them so that white becomes 65535
            values = values >> (16 - bits)
            values = (values << (16 - bits)) | (values >> (2 * bits - 16))
        if "a" in frame.mode:
            raise ValueError("its colours are multiplied by its transparency")
        block, packet = frame.info.get("exif"), frame.info.get("xmp")
        packet, attached = xmp.without_attachments(xmp.upright(packet))
        attached += boxes.facts(data).attachments
        found = Metadata(
            icc=frame.info.get("icc_profile"),
            cicp=_code_points(frame.info.get("nclx_profile")),
            # The samples are upright already, but the orientation in EXIF may be another.
            exif=exif.upright(block, transposed=exif.orientation(block) >= 5),
            xmp=packet,
            coding=Coding("HEIF", subsampling=_CHROMA.get(frame.info.get("chroma"), 2)),
        )
        if found.icc:
            found = replace(found, cicp=None)
        warnings += tuple(f"its {name} is left out" for name in dict.fromkeys(attached))
        return Decoded(Samples(values, alpha=values.shape[2] in (2, 4)), found, warnings=warnings)

    def encode(self, samples: Samples, picture: Metadata, quality: int | None) -> bytes:
        """Encode as HEIC of quality 90, or of ``quality``; uint16 as 10 bits."""
        library = _library()
        if not library.libheif_info()["HEIF"]:
            raise ValueError("this pillow-heif has no HEIC encoder")
        values = samples.values
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[values.shape[2]]
        if values.dtype == np.uint16:
            mode += ";16"
            values = (values.astype(np.uint32) * 1023 + 32767) // 65535
            values = (values << 6).astype(np.uint16)
        options: dict[str, Any] = {"quality": quality or MIN_QUALITY, "chroma": 420, "enc_params": _FAST}
        if picture.coding is not None and picture.coding.format == "HEIF":
            options["chroma"] = {number: chroma for chroma, number in _CHROMA.items()}[picture.coding.subsampling]
        icc, _ = profile(picture, samples.colours == 1)
        if picture.cicp:
            icc = None
            options |= {
                "save_nclx_profile": True,
                "color_primaries": picture.cicp.primaries,
                "transfer_characteristics": picture.cicp.transfer,
                "full_range_flag": 1,
            }
            if picture.cicp.matrix:  # 0 is the matrix of RGB planes, which are not written
                options["matrix_coefficients"] = picture.cicp.matrix
        options |= given(exif=picture.exif, xmp=picture.xmp, icc_profile=icc)
        file = io.BytesIO()
        height, width = values.shape[:2]
        library.encode(mode, (width, height), np.ascontiguousarray(values).tobytes(), file, **options)
        return file.getvalue()


CODEC = Heif()


def _open(file: BinaryIO, page: int | None) -> tuple[Any, tuple[str, ...]]:
    """The chosen picture, not decoded yet, and warnings about the others."""
    library = _library()
    try:
        heif = library.open_heif(file, convert_hdr_to_8bit=False)
        index, warnings = choose_page("a HEIF", page, len(heif), heif.primary_index)
        frame = heif[index]
    except IndexError as error:
        raise RefusedError("no picture in it that pillow-heif decodes", "convert it, or repair it") from error
    check_pixels(*frame.size)
    return frame, warnings


def _pixels(frame: Any) -> np.ndarray:
    try:
        return np.array(frame)  # a copy, because NumPy 1 does not keep the frame alive, which owns the memory
    except (OSError, RuntimeError, ValueError) as error:
        if "has not been built in" in str(error):
            raise RefusedError("its compression is not one that pillow-heif decodes", "convert it to HEIC") from error
        raise


def _code_points(found: dict[str, Any] | None) -> CodePoints | None:
    if not found:
        return None
    return CodePoints(
        int(found["color_primaries"]),
        int(found["transfer_characteristics"]),
        int(found["matrix_coefficients"]),
        bool(found["full_range_flag"]),
    )


def _library() -> Any:
    try:
        import pillow_heif
    except ImportError:
        raise missing("HEIC", "pillow-heif") from None
    return pillow_heif
