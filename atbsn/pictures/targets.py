"""Check whether the format of a file can hold a picture, before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atbsn.pictures import formats
from atbsn.pictures.colour import profile
from atbsn.pictures.formats import CODECS, KINDS, Codec
from atbsn.utils.errors import UserError

RAW_TARGET = ".dng"
"""Suffix of the files of mosaics."""

if TYPE_CHECKING:
    from atbsn.pictures.image import Picture


def check_target(path: str | os.PathLike[str], picture: Picture | None = None) -> Codec:
    """The format that the suffix of ``path`` names.

    Args:
        path: the file to write.
        picture: the picture to write; its samples do not matter. None: only the name is checked.

    Raises:
        UserError: the format is unknown, is only read, or cannot hold the picture. Then the message names formats that
            can.
    """
    path = Path(path)
    codec = formats.by_suffix(path.suffix)
    if codec is None:
        raise UserError(f"{path}: '{path.suffix.lower()}' is not a known format; write {KINDS}")
    if picture is not None and picture.mosaic is not None:
        if path.suffix.lower() != RAW_TARGET:
            raise UserError(f"{path}: the mosaic of a camera's raw data is written as DNG; name a {RAW_TARGET} file")
        return codec
    if not codec.writes:
        raise UserError(f"{path}: {codec.name} is not written; write TIFF")
    refusal = picture and _refusal(codec, picture)
    if picture is not None and refusal:
        names = [each.name for each in _holders(picture)]
        remedy = f"write {_listed(names, 'or')}" if names else "make it smaller or cut it up"
        raise UserError(f"{path}: {codec.name} {refusal}; {remedy}")
    return codec


def suffixes_for(picture: Picture) -> tuple[str, ...]:
    """The usual suffixes of the formats that can hold ``picture`` and whose libraries are installed."""
    return tuple(codec.suffixes[0] for codec in _holders(picture))


def losses(codec: Codec, picture: Picture) -> list[str]:
    """Sentences on what ``codec``'s format leaves out of ``picture`` although it can hold the pixels."""
    holds, found = codec.holds, []
    icc, unsaid = profile(picture, picture.grey)
    if picture.cicp and holds.cicp:
        unsaid = None
    elif not holds.icc and (icc or unsaid):
        unsaid = "its colour profile is left out, so its colours may look different"
    if unsaid:
        able = [each.name for each in CODECS if each.writes and (each.holds.cicp if holds.icc else each.holds.icc)]
        found.append(f"{codec.name}: {unsaid}; {_listed(able, 'and')} can say them")
    if not holds.texts and (picture.exif or picture.xmp):
        found.append(f"{codec.name} holds no EXIF and XMP; they are left out")
    if picture.white is not None and picture.rgb.dtype == np.float32 and not holds.floats:
        found.append(f"{codec.name} holds no floating point; it gets whole numbers of up to {holds.bits} bits")
    return found


def _holders(picture: Picture) -> list[Codec]:
    able = [codec for codec in CODECS if codec.writes and not _refusal(codec, picture)]
    return [codec for codec in able if not formats.is_missing(codec.suffixes[0])]


def _listed(names: list[str], last: str) -> str:
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _refusal(codec: Codec, picture: Picture) -> str | None:
    """Why a format cannot hold the picture, as the end of a sentence; None if it can."""
    if picture.alpha is not None and not codec.holds.alpha:
        return "holds no transparency"
    if picture.extra is not None and not codec.holds.extra:
        return "holds no samples beside colours and transparency"
    height, width = picture.rgb.shape[:2]
    if codec.holds.side is not None and max(height, width) > codec.holds.side:
        return f"holds no more than {codec.holds.side} pixels a side, not {max(height, width)}"
    return None
