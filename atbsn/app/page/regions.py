"""The mask that a visitor paints: in the size of the view, and as a file in the size of the picture."""

import io
import secrets

import cv2
import numpy as np
from PIL import Image

from atbsn.app.page.sessions import Session, Upload
from atbsn.utils.errors import UserError

_KEPT = 2
"""Masks of a picture that are kept: a download that has begun may still read the one before the newest."""


def lay_mask(session: Session, upload: Upload, data: bytes) -> None:
    """Store a mask for a picture, which replaces an earlier one. The picture's facts then name its file.

    Args:
        session: the visitor's session.
        upload: the picture.
        data: a byte for each pixel of the view (H, W): 255 where it is denoised, 0 where it stays as it is.

    Raises:
        UserError: the number of bytes is wrong.
    """
    width, height = upload.facts["view"]
    if len(data) != width * height:
        raise UserError(f"a mask of {len(data)} bytes: {width} x {height} are needed, one for each pixel that is shown")
    path = upload.path.with_name(f"{secrets.token_urlsafe(9)}.mask")
    path.write_bytes(data)
    upload.mask, upload.facts["mask"] = path, session.offer(path, "mask")
    session.keep_newest(upload.offered, "mask", [upload.facts["mask"]], _KEPT)


def take_mask_off(session: Session, upload: Upload) -> None:
    """Remove the mask: all of the picture is denoised again."""
    upload.mask = upload.facts["mask"] = None
    session.keep_newest(upload.offered, "mask", [], _KEPT)


def mask_file(upload: Upload) -> bytes | None:
    """The mask as a grey PNG of the picture's size, as ``atbsn denoise --mask`` takes it; None if there is no mask.

    It is interpolated from the mask of the view. For a large picture this takes too long to do after every stroke, so
    it is done when the file is needed.
    """
    if upload.mask is None:
        return None
    width, height = upload.facts["view"]
    painted = np.fromfile(upload.mask, np.uint8).reshape(height, width)
    full = cv2.resize(painted, (upload.facts["width"], upload.facts["height"]), interpolation=cv2.INTER_LINEAR)
    file = io.BytesIO()
    Image.fromarray(full).save(file, "png")
    return file.getvalue()
