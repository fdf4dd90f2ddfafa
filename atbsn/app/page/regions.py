"""The mask that a visitor paints: of the size at which his picture is shown, and of that of the picture itself."""

import secrets

import cv2
import numpy as np

from atbsn.app.page.sessions import Session, Upload
from atbsn.pictures import Picture, write_picture
from atbsn.utils.errors import UserError

_KEPT = 2
"""Masks of a picture that are kept: the one before may be about to be read by a download that has begun."""


def lay_mask(session: Session, upload: Upload, data: bytes) -> None:
    """Lay a mask over a picture, in place of the one before.

    The picture's facts name two files from then on: ``view``, what was painted, and ``file``, a grey PNG of the
    picture's size for ``atbsn denoise --mask``; between the painted pixels it is interpolated.

    Args:
        data: (H, W) bytes of the picture as it is shown: 255 where it is denoised, 0 where it stays as it is.

    Raises:
        UserError: it is of another size.
    """
    width, height = upload.facts["view"]
    if len(data) != width * height:
        raise UserError(f"a mask of {len(data)} bytes: {width} x {height} are needed, one for each pixel that is shown")
    painted = np.frombuffer(data, np.uint8).reshape(height, width)
    size = upload.facts["width"], upload.facts["height"]
    full = painted if (width, height) == size else cv2.resize(painted, size, interpolation=cv2.INTER_LINEAR)
    name = secrets.token_urlsafe(6)
    path, view = upload.path.with_name(f"mask-{name}.png"), upload.path.with_name(f"mask-{name}.view")
    write_picture(path, Picture(np.repeat(full[..., None], 3, axis=2), grey=True))
    view.write_bytes(data)
    stem = upload.name.rpartition(".")[0]
    files = {"view": session.offer(view, "mask"), "file": session.offer(path, f"{stem}_mask.png")}
    upload.mask, upload.facts["mask"] = path, files
    session.keep_newest(upload.offered, "mask", list(files.values()), _KEPT)


def take_mask_off(session: Session, upload: Upload) -> None:
    """Denoise all of a picture again."""
    upload.mask, upload.facts["mask"] = None, None
    session.keep_newest(upload.offered, "mask", [], _KEPT)
