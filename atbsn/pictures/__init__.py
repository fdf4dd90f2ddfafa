"""Picture files: find them, read them to arrays with their metadata, and write them in each format."""

from atbsn.pictures.find import Found, find_pictures, image_paths, walk_pictures
from atbsn.pictures.image import Picture, from_tensor, to_depth, to_tensor
from atbsn.pictures.mask import check_mask, keep_where_black, read_mask
from atbsn.pictures.raw import raw_size, read_raw
from atbsn.pictures.read import White, picture_size, read_picture, reader
from atbsn.pictures.targets import check_target, suffixes_for
from atbsn.pictures.write import write_picture, written_name

__all__ = [
    "Found",
    "Picture",
    "White",
    "check_mask",
    "check_target",
    "find_pictures",
    "from_tensor",
    "image_paths",
    "keep_where_black",
    "picture_size",
    "raw_size",
    "read_mask",
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
