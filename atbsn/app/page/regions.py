"""The mask that a visitor paints: of the size at which his picture is shown, and as a file of the picture's own."""

import io
import secrets

import cv2
import numpy as np
from PIL import Image

from atbsn.app.page.sessions import Session, Upload
from atbsn.utils.errors import UserError

_KEPT = 2
"""Masks of a picture that are kept: the one before may be about to be read by a download that has begun."""


def lay_mask(session: Session, upload: Upload, data: bytes) -> None:
    """Lay a mask over a picture, in place of the one before; the picture's facts then name its file.

    Args:
        data: (H, W) bytes of the picture as it is shown: 255 where it is denoised, 0 where it stays as it is.

    Raises:
        UserError: it is of another size.
    """
    width, height = upload.facts["view"]
    if len(data) != width * height:
        raise UserError(f"a mask of {len(data)} bytes: {width} x {height} are needed, one for each pixel that is shown")
    path = upload.path.with_name(f"{secrets.token_urlsafe(9)}.mask")
    path.write_bytes(data)
    upload.mask, upload.facts["mask"] = path, session.offer(path, "mask")
    session.keep_newest(upload.offered, "mask", [upload.facts["mask"]], _KEPT)


def take_mask_off(session: Session, upload: Upload) -> None:
    """Denoise all of a picture again."""
    upload.mask = upload.facts["mask"] = None
    session.keep_newest(upload.offered, "mask", [], _KEPT)


def mask_file(upload: Upload) -> bytes | None:
    """The mask for ``atbsn denoise --mask``: a grey PNG of the picture's size; None where there is none.

    Between the pixels that were painted it is interpolated. Of a large picture that takes too long for every stroke, so
    it is made when it is needed.
    """
    if upload.mask is None:
        return None
    width, height = upload.facts["view"]
    painted = np.fromfile(upload.mask, np.uint8).reshape(height, width)
    full = cv2.resize(painted, (upload.facts["width"], upload.facts["height"]), interpolation=cv2.INTER_LINEAR)
    file = io.BytesIO()
    Image.fromarray(full).save(file, "png")
    return file.getvalue()
