"""Picture files to arrays and back: finding them, what they hold besides the pixels, and how each format is written."""

from atbsn.pictures.find import Found, find_pictures, image_paths, walk_pictures
from atbsn.pictures.image import (
    Picture,
    White,
    from_tensor,
    picture_size,
    read_picture,
    reader,
    to_depth,
    to_tensor,
    write_picture,
    written_name,
)
from atbsn.pictures.raw import raw_size, read_raw
from atbsn.pictures.targets import check_target, suffixes_for

__all__ = [
    "Found",
    "Picture",
    "White",
    "check_target",
    "find_pictures",
    "from_tensor",
    "image_paths",
    "picture_size",
    "raw_size",
    "read_picture",
    "read_raw",
    "reader",
    "suffixes_for",
    "to_depth",
    "to_tensor",
    "walk_pictures",
    "write_picture",
    "written_name",
]
