"""Convert descriptions of colours between formats: ICC profiles, numbers of ITU-T H.273, and chunks of PNG."""

import io
import struct
from functools import cache

import numpy as np
from PIL import Image, ImageCms

from atbsn.pictures.icc import SRGB, Curve, Place, grey_profile, rgb_profile
from atbsn.pictures.metadata import CodePoints, Metadata, RefusedError

_NO_PROFILE = "CMYK without a colour profile: its colours are only roughly right"
"""The warning about CMYK without a profile."""
_D65: Place = (0.3127, 0.3290)
_BT709: tuple[Place, Place, Place, Place] = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65)
"""CIE 1931 chromaticities (x, y) of the white D65, and of red, green, blue and white of ITU-R BT.709 and sRGB."""
_PRIMARIES: dict[int, tuple[str, tuple[Place, Place, Place, Place]]] = {
    1: ("BT.709", _BT709),
    4: ("BT.470 M", ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), (0.310, 0.316))),
    5: ("BT.470 BG", ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65)),
    6: ("SMPTE 170M", ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65)),
    7: ("SMPTE 240M", ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65)),
    9: ("BT.2020", ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65)),
    11: ("DCI-P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351))),
    12: ("Display P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65)),
}
"""Name and chromaticities of red, green, blue and white, by their number (ITU-T H.273, table 2)."""
_CURVES = {
    # The curves 1, 6, 14 and 15 are those of cameras and not of displays. Viewers show such pictures with sRGB's curve.
    **dict.fromkeys((1, 6, 13, 14, 15), ("", SRGB)),
    4: (" gamma 2.2", Curve(2.2)),
    5: (" gamma 2.8", Curve(2.8)),
    8: (" linear", Curve(1.0)),
    17: (" gamma 2.6", Curve(2.6)),
}
"""End of the profile's name and the curve, by the number of the transfer characteristics (H.273, table 3)."""
_HDR = {16: "PQ", 18: "HLG"}
"""Transfer characteristics of high dynamic range (H.273, table 3)."""
_UNSAID, _BT709_NUMBER, _SRGB_NUMBER = 2, 1, 13
"""Numbers in H.273: not specified; the primaries of BT.709; the transfer characteristics of sRGB."""
_SRGB_GAMMA = 45455
"""The value of PNG's gAMA chunk for sRGB: 100000 / 2.2."""
_CLOSE = 0.003
"""Largest difference in x and y at which primaries count as BT.709's. Chosen by hand: writers round them to two to four
digits."""


@cache
def srgb_profile() -> bytes:
    """An ICC profile of sRGB; always the same bytes."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = bytes.fromhex("07d0 0001 0001 0000 0000 0000")  # made on 2000-01-01
    return bytes(profile)


def from_cmyk(image: Image.Image) -> tuple[Image.Image, str | None]:
    """Convert a loaded CMYK image to sRGB by its profile; without one by 255 - ink, with a warning.

    Returns:
        The image, and the warning or None.

    Raises:
        RefusedError: its profile is not for CMYK, or damaged.
    """
    icc = image.info.get("icc_profile")
    if not icc:
        return image.convert("RGB"), _NO_PROFILE
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        target = ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile()))
        converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        raise RefusedError(f"its CMYK profile cannot be used ({error})", "convert it to RGB, as sRGB") from error
    assert converted is not None  # None is returned only for conversions in place
    return converted, None


def encoding(points: CodePoints | None) -> str | None:
    """``"PQ"`` or ``"HLG"`` for colours of high dynamic range; otherwise None."""
    return _HDR.get(points.transfer) if points else None


def profile(picture: Metadata, grey: bool) -> tuple[bytes | None, str | None]:
    """The ICC profile for a format that cannot store the numbers of colours.

    Returns:
        The profile, or None for sRGB, which files without a profile have; and a sentence on what a profile cannot
        express, or None.
    """
    if picture.icc:
        return picture.icc, None
    points = picture.cicp
    if points is not None:
        if encoding(points) is not None:
            name, _ = _name_and_places(points.primaries)
            return None, f"its colours ({encoding(points)} of {name}) cannot be said in it"
        curve = _CURVES.get(_SRGB_NUMBER if points.transfer == _UNSAID else points.transfer)
        if curve is None or points.primaries not in {*_PRIMARIES, _UNSAID}:
            return None, f"its colours (numbers {points.primaries} and {points.transfer}) cannot be said in it"
        name, places = _name_and_places(points.primaries)
        if places is _BT709 and curve[1] is SRGB:
            return None, None
        return _made(name + curve[0], places, curve[1], grey), None
    return _of_png(picture, grey), None


def _name_and_places(number: int) -> tuple[str, tuple[Place, Place, Place, Place]]:
    return _PRIMARIES.get(_BT709_NUMBER if number == _UNSAID else number, (f"primaries {number}", _BT709))


def _of_png(picture: Metadata, grey: bool) -> bytes | None:
    """The profile for a PNG's chunks gAMA and cHRM; the chunk sRGB goes before them (PNG, third edition, 4.3)."""
    chunks = dict(picture.notes)
    gamma, places, body = _SRGB_GAMMA, _BT709, chunks.get("PNG:cHRM", b"")
    if "PNG:sRGB" in chunks:
        return None
    if len(chunks.get("PNG:gAMA", b"")) == 4:
        (gamma,) = struct.unpack(">I", chunks["PNG:gAMA"])
    if len(body) == 32:
        white, red, green, blue = ((x / 1e5, y / 1e5) for x, y in struct.iter_unpack(">II", body))
        if all(y > 0 for _, y in (white, red, green, blue)) and not _is_bt709((red, green, blue, white)):
            places = (red, green, blue, white)
    is_srgb = abs(gamma - _SRGB_GAMMA) < _SRGB_GAMMA // 50
    if gamma == 0 or (is_srgb and places is _BT709):
        return None
    curve = SRGB if is_srgb else Curve(1e5 / gamma)
    return _made(f"PNG gamma {gamma / 1e5:g}", places, curve, grey)


def _is_bt709(places: tuple[Place, Place, Place, Place]) -> bool:
    pairs = zip(places, _BT709, strict=True)
    return all(abs(a - b) <= _CLOSE for one, other in pairs for a, b in zip(one, other, strict=True))


def _made(name: str, places: tuple[Place, Place, Place, Place], curve: Curve, grey: bool) -> bytes | None:
    """Make a profile; None if grey needs none, or if the primaries span no colours."""
    if grey:
        return None if curve is SRGB else grey_profile(name, places[3], curve)
    try:
        return rgb_profile(name, *places, curve)
    except (np.linalg.LinAlgError, struct.error):
        return None
