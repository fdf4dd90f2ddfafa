"""Minimal camera RAW files for tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from atbsn.pictures import exif

XYZ_TO_SRGB = (3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570)
"""As ColorMatrix1: a camera that sees sRGB's primaries."""
BLACK, WHITE = 512, 16383
Neutral = tuple[float, float, float]
"""What a camera sees of white, green 1."""
DAYLIGHT: Neutral = (0.5, 1.0, 0.7)
Tag = tuple[int, int, int, Any, bool]
"""As tifffile takes it: number, type, count, value, whether it is written once."""


def linear(height: int = 96, width: int = 128) -> np.ndarray:
    """A smooth picture of all colours, linear in [0, 1]."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    return 0.8 * np.stack([x, y, 0.25 + (x + y) / 4], axis=2)


def mosaic(rgb: np.ndarray, neutral: Neutral) -> np.ndarray:
    """(H, W, 3) linear in [0, 1] to an RGGB mosaic of 14 bits; under the light, white is ``neutral`` to the camera."""
    seen = rgb * np.array(neutral)
    raw = np.empty(rgb.shape[:2])
    for top, left, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        raw[top::2, left::2] = seen[top::2, left::2, channel]
    return np.round(BLACK + raw * (WHITE - BLACK)).astype(np.uint16)


def write_dng(
    path: Path, rgb: np.ndarray, neutral: Neutral = DAYLIGHT, orientation: int = 1, extra: Sequence[Tag] = ()
) -> None:
    """An uncompressed DNG of ``rgb``, (H, W, 3), linear sRGB in [0, 1]; even height and width."""
    write_mosaic(path, mosaic(rgb, neutral), neutral, (274, 3, 1, orientation, True), *extra)


def write_mosaic(path: Path, raw: np.ndarray, neutral: Neutral = DAYLIGHT, *own: Tag) -> None:
    """An uncompressed DNG of the levels ``raw`` (H, W); tags of its ``own`` take the place of the usual ones."""
    usual: list[Tag] = [
        (271, 2, 0, "Maker", True),
        (272, 2, 0, "Camera", True),
        (33421, 3, 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, 1, 4, (0, 1, 1, 2), True),  # CFAPattern
        (50706, 1, 4, (1, 4, 0, 0), True),  # DNGVersion
        (50707, 1, 4, (1, 1, 0, 0), True),  # DNGBackwardVersion
        (50708, 2, 0, "Maker Camera", True),  # UniqueCameraModel
        (50714, 3, 1, BLACK, True),  # BlackLevel
        (50717, 4, 1, WHITE, True),  # WhiteLevel
        (50721, 10, 9, tuple(part for value in XYZ_TO_SRGB for part in (round(value * 10000), 10000)), True),
        (50728, 5, 3, tuple(part for value in neutral for part in (round(value * 10000), 10000)), True),
        (50778, 3, 1, 21, True),  # CalibrationIlluminant1: D65
    ]
    tags = {tag[0]: tag for tag in (*usual, *own)}
    how: dict[str, Any] = {"photometric": 32803} if raw.ndim == 2 else {"photometric": "rgb", "planarconfig": "contig"}
    tifffile.imwrite(path, raw, metadata=None, software=False, extratags=sorted(tags.values()), **how)


def with_exif(path: Path, entries: dict[int, tuple[exif.DirectoryEntry, ...]]) -> None:
    """Give a TIFF or DNG sub-directories: {EXIF or GPS: its entries}. Nothing of interest stands at the very end."""
    data = path.read_bytes()
    directories = exif.Directories(data)
    found = list(directories.read(directories.first)[0])
    found += [exif.DirectoryEntry(tag, 4, 1, bytes(4), children) for tag, children in entries.items()]
    end = len(data) + len(data) % 2
    block = exif.directory(found, directories.order, end)
    header = data[:4] + end.to_bytes(4, "little" if directories.order == "<" else "big")
    path.write_bytes(header + data[8:] + bytes(len(data) % 2) + block + bytes(4096))


def write_uncompressed(path: Path, raw: np.ndarray, maker: str, model: str, *own: Tag) -> None:
    """The levels ``raw`` (H, W) as makers keep them that use TIFF (NEF, PEF, ARW, SRW): RGGB, or as ``own`` says."""
    tags: dict[int, Tag] = {
        271: (271, 2, 0, maker, True),
        272: (272, 2, 0, model, True),
        33421: (33421, 3, 2, (2, 2), True),
        33422: (33422, 1, 4, (0, 1, 1, 2), True),
    }
    tags |= {tag[0]: tag for tag in own}
    tifffile.imwrite(path, raw, photometric=32803, metadata=None, software=False, extratags=list(tags.values()))
