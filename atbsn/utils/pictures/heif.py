"""HEIC and HEIF through pillow-heif, AVIF through Pillow: the extra ``[photos]``."""

import io
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from atbsn.utils.pictures.formats import Coding, Decoded, Metadata, check_pixels, check_single, missing
from atbsn.utils.pictures.jpeg import LEAST_QUALITY, upright_xmp

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1")
_COLOURS = ("color_primaries", "transfer_characteristics", "matrix_coefficients", "full_range_flag")


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
        from PIL import _avif  # noqa: F401
    except ImportError:
        raise missing("AVIF", "pillow>=11.3") from None


def read_size(file: BinaryIO) -> tuple[int, int]:
    """Height and width of a HEIF, upright."""
    width, height = _open(file).size
    return height, width


def decode(data: bytes) -> Decoded:
    """Decode a HEIF: 8 bits, or 10 and 12 as 16."""
    heif = _open(io.BytesIO(data))
    samples = np.asarray(heif)
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
        coding=Coding("HEIF", colours={key: int(profile[key]) for key in _COLOURS} if profile else None),
    )
    return Decoded(np.atleast_3d(samples), metadata)


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
    options: dict[str, Any] = {"quality": wanted or LEAST_QUALITY, "chroma": 420}
    colours = picture.coding.colours if picture.coding is not None else None
    if colours and not picture.icc:
        options |= {"save_nclx_profile": True, **colours}
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
    found = {"icc_profile": picture.icc, "exif": picture.exif, "xmp": picture.xmp}
    file = io.BytesIO()
    image.save(file, "AVIF", quality=wanted or LEAST_QUALITY, **{key: value for key, value in found.items() if value})
    return file.getvalue()


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
