"""Write the mosaic of a sensor as a DNG, a raw file that any raw developer opens (Adobe, DNG specification 1.4).

It has 16 bits without compression, which all developers read, and what they need: the mosaic, levels of black and
white, the camera's colours, the white balance, the orientation, EXIF. If the source is a DNG, its own tags are kept.
"""

import io
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tifffile

from atbsn.pictures import exif
from atbsn.pictures.exif import Directories, DirectoryEntry
from atbsn.pictures.formats.tiff import describe
from atbsn.pictures.metadata import Metadata
from atbsn.pictures.mosaic import Mosaic, by_colour, unpack
from atbsn.pictures.pages import TiffPage

CFA, FULL = 32803, 65535
"""PhotometricInterpretation of a mosaic; the largest level that is written."""
_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _SRATIONAL = 1, 2, 3, 4, 5, 10
"""Types of values (TIFF 6.0, section 2)."""
_SUB_DIRECTORIES, _PHOTOMETRIC, _ORIENTATION = 330, 262, 274
_CFA_DIMENSIONS, _CFA_PATTERN, _PLANE_COLOURS, _LAYOUT = 33421, 33422, 50710, 50711
_VERSION, _BACKWARD, _MODEL = 50706, 50707, 50708
_BLACK_REPEAT, _BLACK, _BLACK_COLUMNS, _BLACK_ROWS, _WHITE = 50713, 50714, 50715, 50716, 50717
_SCALE = 50718
_MATRIX, _NEUTRAL, _ILLUMINANT, _ACTIVE_AREA, _CROP = 50721, 50728, 50778, 50829, (50719, 50720, 51125)
"""Tags of TIFF 6.0, of TIFF/EP and of DNG (chapter 4)."""
_OPCODES = (51009, 51022)
"""OpcodeList2 and 3: corrections (lens shading, distortion) after the levels are applied and after demosaicing. Their
positions are in the active area, which is what is written. OpcodeList1, 51008, repairs pixels of the original data."""
_KEPT = frozenset(
    {
        *(_MODEL, 50709, 50735, 50736),  # camera and lens
        *range(_MATRIX, 50730), _ILLUMINANT, 50779, 50931, 50932, 50964, 50965,  # colours, and the light
        *range(50936, 50943), 50981, 50982, 51107, 51108, 51109, 51110,  # the profile: tables, curve, name, copyright
        50730, 50732, 50733, 50734, 50738, 50739, 50780, _SCALE,  # exposure, sharpness, green split, scales
        *_CROP, *_OPCODES,
    }
)  # fmt: skip
"""Tags of a DNG that are kept for its denoised mosaic: all that say how to develop it. Left out are those on its noise
(BaselineNoise, NoiseReductionApplied, NoiseProfile) and on the position of its data, previews and maker notes."""
_FORMATS = {_BYTE: "B", _SHORT: "H", _LONG: "I", _RATIONAL: "II", _SRATIONAL: "ii"}
"""Codes of the types in ``struct``."""
_D65 = 21
"""CalibrationIlluminant: the light for which LibRaw's colour matrices are."""
_UNKNOWN = "unknown camera"
"""UniqueCameraModel if it is not known."""
_SRGB = ((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570))
"""XYZ to linear sRGB (IEC 61966-2-1): the colour matrix for cameras that LibRaw does not know."""


class _Raw(NamedTuple):
    """The directories of a DNG: the first one, and the one of the mosaic."""

    first: TiffPage
    mosaic: TiffPage
    order: str


def tags(source: bytes | None, raw: Any, camera: str | None, order: str) -> list[DirectoryEntry]:
    """The tags of a DNG on camera, colours and lens.

    Args:
        source: the source file if it is a DNG, whose tags replace those from LibRaw; otherwise None.
        raw: rawpy's object of the file.
        camera: name of the camera, for a source that is not a DNG.
        order: byte order of the entries: that of ``source``.
    """
    matrix = np.asarray(raw.rgb_xyz_matrix)[:3]
    found = _colours(camera or _UNKNOWN, matrix if matrix.any() else _SRGB, _neutral(raw), order)
    crop = _crop(raw)
    if crop is not None:
        origin, size = crop
        found |= {tag: _numbers(tag, _LONG, value, order) for tag, value in zip(_CROP, (origin, size), strict=False)}
    aspect = raw.sizes.pixel_aspect  # width / height of a pixel; a developer makes pixels square
    if aspect != 1:
        found[_SCALE] = _fractions(_SCALE, (max(1, aspect), max(1, 1 / aspect)), order)
    directories = None if source is None else _directories(source)
    if directories is None:
        return list(found.values())
    own = {entry.tag: entry for page in (directories.first, directories.mosaic) for entry in page.entries}
    own = {tag: entry for tag, entry in own.items() if tag in _KEPT}
    if _MATRIX in own:  # the illuminant belongs to LibRaw's matrix
        del found[_ILLUMINANT]
    if _active_corner(directories.mosaic) != (raw.sizes.top_margin, raw.sizes.left_margin):
        own = {tag: entry for tag, entry in own.items() if tag not in _CROP + _OPCODES}
    return list({**found, **own}.values())


def black_level(source: bytes, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray | None:
    """The black level of each pixel of a DNG, broadcastable to (H, W) = ``size``; None if the file does not state it.

    Args:
        source: the DNG.
        corner: row and column of the first visible pixel in the whole data of the sensor.
        size: height and width of the visible part.

    Raises:
        ValueError: the number of levels does not fit their pattern.
    """
    directories = _directories(source)
    if directories is None:
        return None
    page, order = directories.mosaic, directories.order
    values = {entry.tag: _values(entry, order) for entry in page.entries if entry.kind in _FORMATS}
    rows, columns = (int(value) for value in values.get(_BLACK_REPEAT, (1, 1)))
    levels = values.get(_BLACK, (0.0,))
    if len(levels) != rows * columns:
        raise ValueError(f"its black levels are {len(levels)} for {rows} x {columns} pixels")
    top, left = _active_corner(page)
    down, across = np.arange(size[0]) + corner[0] - top, np.arange(size[1]) + corner[1] - left
    if rows == columns == 1:
        pixels = np.full((1, 1), levels[0], np.float32)
    else:
        pixels = np.asarray(levels, np.float32).reshape(rows, columns)[np.ix_(down % rows, across % columns)]
    for tag, places, axis in ((_BLACK_COLUMNS, across, 0), (_BLACK_ROWS, down, 1)):
        if tag in values:
            pixels = pixels + np.expand_dims(np.asarray(values[tag], np.float32)[places], axis)
    return pixels


def encode(cells: np.ndarray, mosaic: Mosaic, picture: Metadata) -> bytes:
    """Encode a mosaic as a DNG of 16 bits.

    Its levels are those of the source file, times the largest whole factor that fits into 16 bits.

    Args:
        cells: (h, w, 4) float, black 0 and white 255, as ``read_raw`` gives them.
        mosaic: the facts on the mosaic from ``read_raw``.
        picture: metadata: EXIF and XMP.
    """
    fine = max(1, int(FULL // mosaic.white))
    black, white = tuple(round(level * fine) for level in mosaic.black), round(mosaic.white * fine)
    levels = unpack(cells, mosaic.phase, mosaic.size) / 255
    floor = by_colour(black, mosaic.phase, mosaic.size)
    values = np.clip(np.rint(levels * (white - floor) + floor), 0, FULL).astype(np.uint16)
    order, (down, right) = mosaic.order, mosaic.phase
    here = [_by_phase(row, column, down, right) for row in (0, 1) for column in (0, 1)]
    colours = {entry.tag: entry for entry in mosaic.tags}
    if _MATRIX not in colours:
        colours = {**_colours(_UNKNOWN, _SRGB, (1, 1, 1), order), **colours}
    own = [
        _numbers(_ORIENTATION, _SHORT, (mosaic.orientation,), order),
        _numbers(_CFA_DIMENSIONS, _SHORT, (2, 2), order),
        _numbers(_CFA_PATTERN, _BYTE, [(0, 1, 1, 2)[place] for place in here], order),
        _numbers(_PLANE_COLOURS, _BYTE, (0, 1, 2), order),
        _numbers(_LAYOUT, _SHORT, (1,), order),
        _numbers(_VERSION, _BYTE, (1, 4, 0, 0), order),
        _numbers(_BACKWARD, _BYTE, (1, 3, 0, 0) if colours.keys() & set(_OPCODES) else (1, 1, 0, 0), order),
        _numbers(_BLACK_REPEAT, _SHORT, (2, 2), order),
        _numbers(_BLACK, _LONG, [black[place] for place in here], order),
        _numbers(_WHITE, _LONG, (white,), order),
    ]
    beside, _ = exif.for_tiff(picture.exif)
    if picture.xmp:
        beside.append(DirectoryEntry(exif.XMP, _BYTE, len(picture.xmp), picture.xmp))
    file = io.BytesIO()
    tifffile.imwrite(
        file, values, byteorder="<" if order == "<" else ">", photometric=CFA, software=False, metadata=None
    )
    describe(file, {entry.tag: entry for entry in (*beside, *colours.values(), *own)}, order)
    return file.getvalue()


def _colours(
    camera: str, matrix: Sequence[Sequence[float]] | np.ndarray, neutral: Sequence[float], order: str
) -> dict[int, DirectoryEntry]:
    """The tags that a developer needs at least: camera, matrix from XYZ to its colours in daylight, and white point."""
    name = camera.encode() + b"\0"
    return {
        _MODEL: DirectoryEntry(_MODEL, _ASCII, len(name), name),
        _MATRIX: _fractions(_MATRIX, np.asarray(matrix).flatten(), order, signed=True),
        _ILLUMINANT: _numbers(_ILLUMINANT, _SHORT, (_D65,), order),
        _NEUTRAL: _fractions(_NEUTRAL, neutral, order),
    }


def _by_phase(row: int, column: int, down: int, right: int) -> int:
    """Index into R, G, G, B of a pixel's colour, if the first red pixel is at ``down``, ``right``."""
    return 2 * ((row - down) % 2) + (column - right) % 2


def _neutral(raw: Any) -> list[float]:
    """AsShotNeutral: the camera's R, G, B for white in the light of the picture, relative to green."""
    for gains in (raw.camera_whitebalance, raw.daylight_whitebalance):
        if all(gain > 0 for gain in gains[:3]):
            return [gains[1] / gain for gain in gains[:3]]
    return [1.0, 1.0, 1.0]


def _crop(raw: Any) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The part of the visible pixels to show: its first pixel (x, y), and its (width, height); None: not stated."""
    sizes = raw.sizes
    left, top = sizes.crop_left_margin - sizes.left_margin, sizes.crop_top_margin - sizes.top_margin
    width, height = sizes.crop_width, sizes.crop_height
    inside = left >= 0 and top >= 0 and left + width <= sizes.width and top + height <= sizes.height
    return ((left, top), (width, height)) if inside and width and height else None


def _directories(source: bytes) -> _Raw | None:
    """The first directory and the largest one with a mosaic; None if there is no mosaic."""
    try:
        directories = Directories(source)
        pages = [TiffPage(directories.first, directories.order, directories.read(directories.first)[0])]
        for at in pages[0].tags.get(_SUB_DIRECTORIES, ()):
            pages.append(TiffPage(at, directories.order, directories.read(at)[0], depth=1))
    except ValueError:
        return None
    mosaics = [page for page in pages if page.number(_PHOTOMETRIC, 0) == CFA]
    if not mosaics:
        return None
    return _Raw(pages[0], max(mosaics, key=lambda page: page.size[0] * page.size[1]), directories.order)


def _active_corner(page: TiffPage) -> tuple[int, int]:
    """Row and column of the first pixel of the active area."""
    top, left, *_ = page.tags.get(_ACTIVE_AREA, (0, 0))
    return top, left


def _values(entry: DirectoryEntry, order: str) -> tuple[float, ...]:
    """The values of an entry as floats."""
    code = _FORMATS[entry.kind]
    found = struct.unpack(f"{order}{entry.length * len(code)}{code[0]}", entry.value)
    if len(code) == 1:
        return tuple(map(float, found))
    return tuple(above / below if below else 0.0 for above, below in zip(found[::2], found[1::2], strict=True))


def _numbers(tag: int, kind: int, values: Iterable[int], order: str) -> DirectoryEntry:
    values = list(values)
    return DirectoryEntry(tag, kind, len(values), struct.pack(f"{order}{len(values)}{_FORMATS[kind]}", *values))


def _fractions(tag: int, values: Sequence[float] | np.ndarray, order: str, signed: bool = False) -> DirectoryEntry:
    """An entry of fractions with the denominator 10000."""
    parts = [part for value in values for part in (round(float(value) * 10000), 10000)]
    kind = _SRATIONAL if signed else _RATIONAL
    return DirectoryEntry(tag, kind, len(values), struct.pack(f"{order}{len(parts)}{'i' if signed else 'I'}", *parts))
