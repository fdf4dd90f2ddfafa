"""HEIC and HEIF through pillow-heif, AVIF through Pillow: the extra ``[photos]``."""

import io
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from atbsn.pictures import exif
from atbsn.pictures.formats import Coding, Decoded, Metadata, check_pixels, check_single, missing
from atbsn.pictures.jpeg import LEAST_QUALITY, upright_xmp

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1")
_COLOURS = ("color_primaries", "transfer_characteristics", "matrix_coefficients", "full_range_flag")
_FAST = {"preset": "ultrafast"}  # x265's own choice takes minutes for a photograph
_CHROMA = {444: 0, 422: 1, 420: 2}


def kind(head: bytes) -> str | None:
    """``"HEIF"`` or ``"AVIF"`` by the first bytes of a file, else None."""
    if head[4:8] != b"ftyp":
        return None
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, length, 4))]
    if b"avif" in brands or b"avis" in brands:
        return "AVIF"
    return "HEIF" if any(brand in _BRANDS for brand in brands) else None


def need_avif() -> None:
    """Refuse with the remedy if this Pillow reads no AVIF."""
    try:
        import_module("PIL._avif")
    except ImportError:
        raise missing("AVIF", "pillow>=11.3") from None


def read_size(file: BinaryIO) -> tuple[int, int]:
    """Height and width of a HEIF, upright."""
    width, height = _open(file).size
    return height, width


def decode(data: bytes) -> Decoded:
    """Decode a HEIF: 8 bits, or 10 and 12 as 16."""
    heif = _open(io.BytesIO(data))
    samples = np.atleast_3d(np.asarray(heif))
    if samples.shape[2] == 4 and "chroma" not in heif.info:  # grey with alpha, which pillow-heif gives as RGBA
        samples = samples[..., [0, 3]]
    bits = heif.info["bit_depth"]
    if samples.dtype == np.uint16:  # pillow-heif leaves the low bits empty; white is to be white
        samples = samples >> (16 - bits)
        samples = (samples << (16 - bits)) | (samples >> (2 * bits - 16))
    if "a" in heif.mode:
        raise ValueError("its colours are multiplied by its transparency")
    xmp, profile = heif.info.get("xmp"), heif.info.get("nclx_profile")
    metadata = Metadata(
        icc=heif.info.get("icc_profile"),
        exif=heif.info.get("exif"),
        xmp=upright_xmp(xmp),
        coding=Coding("HEIF", subsampling=_CHROMA.get(heif.info.get("chroma"), 2), colours=_colours(profile)),
    )
    return Decoded(samples, metadata)


def encode(samples: np.ndarray, picture: Metadata, wanted: int | None) -> bytes:
    """Encode (H, W, C) samples, uint8, or uint16 as 10 bits, as HEIC of quality 90, or the one ``wanted``."""
    library = _library()
    if not library.libheif_info()["HEIF"]:
        raise ValueError("this pillow-heif has no HEIC encoder")
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[samples.shape[2]]
    if samples.dtype == np.uint16:
        mode += ";16"
        samples = (samples.astype(np.uint32) * 1023 + 32767) // 65535
        samples = (samples << 6).astype(np.uint16)
    options: dict[str, Any] = {"quality": wanted or LEAST_QUALITY, "chroma": 420, "enc_params": _FAST}
    if picture.coding is not None and picture.coding.format == "HEIF":
        options["chroma"] = {number: chroma for chroma, number in _CHROMA.items()}[picture.coding.subsampling]
        if picture.coding.colours and not picture.icc:
            options |= {"save_nclx_profile": True, **picture.coding.colours}
    for name, value in (("exif", picture.exif), ("xmp", picture.xmp), ("icc_profile", picture.icc)):
        if value:
            options[name] = value
    file = io.BytesIO()
    height, width = samples.shape[:2]
    library.encode(mode, (width, height), np.ascontiguousarray(samples).tobytes(), file, **options)
    return file.getvalue()


def encode_avif(image: Image.Image, picture: Metadata, wanted: int | None) -> bytes:
    """Encode an image of 8 bits as AVIF of quality 90, or the one ``wanted``."""
    need_avif()
    block = exif.without_orientation(picture.exif) if picture.exif else None  # else Pillow would rewrite all of it
    found = {"icc_profile": picture.icc, "exif": block, "xmp": picture.xmp}
    file = io.BytesIO()
    image.save(file, "AVIF", quality=wanted or LEAST_QUALITY, **{key: value for key, value in found.items() if value})
    return file.getvalue()


def _colours(profile: dict[str, Any] | None) -> dict[str, int] | None:
    """What libheif needs to write a profile of colours; RGB planes are not written, so their matrix is no use."""
    if not profile:
        return None
    return {key: int(profile[key]) for key in _COLOURS if not (key == "matrix_coefficients" and profile[key] == 0)}


def _open(file: BinaryIO) -> Any:
    """The one picture in a HEIF, not decoded yet."""
    heif = _library().open_heif(file, convert_hdr_to_8bit=False)
    check_pixels(*heif.size)
    check_single("a HEIF", len(heif))
    return heif


def _library() -> Any:
    try:
        import pillow_heif
    except ImportError:
        raise missing("HEIC", "pillow-heif") from None
    return pillow_heif
