"""Colours that are neither grey nor RGB, and the profile of sRGB."""

import io
from functools import cache

from PIL import Image, ImageCms

from atbsn.pictures.formats import RefusedError

_NO_PROFILE = "CMYK without a colour profile: its colours are only roughly right"


@cache
def srgb_profile() -> bytes:
    """An ICC profile of sRGB, the same at any time."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = bytes.fromhex("07d0 0001 0001 0000 0000 0000")  # made on 2000-01-01
    return bytes(profile)


def from_cmyk(image: Image.Image) -> tuple[Image.Image, str | None]:
    """A loaded CMYK image in sRGB, through its profile; without one by 255 - ink, with a warning.

    Raises:
        RefusedError: a profile of other colours, or a damaged one.
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
    assert converted is not None  # it is, unless the picture is converted in place
    return converted, None
