"""Read the samples of a TIFF page exactly as stored.

Pillow reduces samples to 8 bits, drops those that it does not know, and cannot read big-endian BigTIFF. OpenCV ignores
planes, inverted grey and the meaning of a fourth sample. So libtiff only unpacks the bytes, and their meaning is taken
from the tags here.
"""

import io
import struct

import numpy as np
from PIL import TiffImagePlugin

from atbsn.pictures.metadata import RefusedError, Samples
from atbsn.pictures.pages import (
    BITS,
    BLACK_IS_ZERO,
    COMPRESSION,
    FILL_ORDER,
    FLOAT,
    HEIGHT,
    PHOTOMETRIC,
    PREDICTOR,
    RGB,
    ROWS,
    STRIP_BYTES,
    STRIPS,
    TILE_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    TILES,
    UNSIGNED,
    WHITE_IS_ZERO,
    WIDTH,
    TiffPage,
)

LOSSLESS = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})
"""Values of Compression that keep every byte: none, LZW, Deflate, PackBits, Deflate (old number), LZMA, Zstandard."""
_WITH_PREDICTOR = LOSSLESS - {1}
"""Values of Compression with which the tag Predictor is used. Without compression it has no meaning."""
_WHOLE_BYTES = {8: "u1", 16: "u2", 32: "u4", 64: "u8"}
"""NumPy's types by the number of bits."""
PLAINLY = "save it without compression, or with LZW or Deflate"
"""The remedy for other compressions."""
_KINDS = {1: "unsigned integers", 2: "signed integers", 3: "floating-point numbers", 5: "complex", 6: "complex"}
"""Names of the values of SampleFormat."""
_ASSOCIATED, _UNASSOCIATED = 1, 2
"""Values of ExtraSamples: transparency by which colours are multiplied, and by which they are not."""
_BLOCK = 256
"""Rows that are converted at a time. Chosen by hand."""


def needs_bytes(page: TiffPage, data: bytes) -> bool:
    """Whether Pillow would lose something of the page or cannot read it, so that ``stored_samples`` has to."""
    depths, extra = page.depths, page.extra
    plain = depths == {8} or (len(depths) == 1 and depths <= {1, 2, 4} and page.samples == 1)
    if not plain or page.formats != {UNSIGNED} or data[:4] == b"MM\0+":
        return True
    if page.number(PHOTOMETRIC, BLACK_IS_ZERO) not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        return False
    if extra == (_ASSOCIATED,) and page.number(COMPRESSION, 1) not in LOSSLESS:
        return page.is_planar
    return page.is_planar or extra not in ((), (_UNASSOCIATED,))


def stored_samples(data: bytes, page: TiffPage) -> Samples:
    """The samples of a page. Inverted grey is inverted back, and colours are divided by associated alpha.

    Integers of fewer than 8 bits become uint8, and those of 9 to 15 bits uint16, scaled so that white stays white.
    Floating-point numbers become float32 of the same values.

    Raises:
        RefusedError: the samples are of a kind that is not read.
        OSError, ValueError: the file is damaged.
    """
    kind = page.number(PHOTOMETRIC, BLACK_IS_ZERO)
    _check_kind(page, kind)
    if page.is_planar:
        values = np.concatenate([_plane(data, page, plane) for plane in range(page.samples)], axis=2)
    else:
        values = _plane(data, page, 0)
    colours = 3 if kind == RGB else 1
    if kind == WHITE_IS_ZERO:
        top = 1 if values.dtype == np.float32 else np.iinfo(values.dtype).max
        values[..., :1] = top - values[..., :1]
    extra = page.extra
    at = next((number for number, what in enumerate(extra) if what in (_ASSOCIATED, _UNASSOCIATED)), None)
    if at is not None:
        if at:  # transparency comes first
            order = [*range(colours), colours + at, *(colours + n for n in range(len(extra)) if n != at)]
            values = np.ascontiguousarray(values[..., order])
        if extra[at] == _ASSOCIATED:
            _free(values[..., :colours], values[..., colours])
    assert values.shape == (*page.size[::-1], page.samples)
    return Samples(values, alpha=at is not None, extra=len(extra) - (at is not None))


def _check_kind(page: TiffPage, kind: int) -> None:
    """Raise a ``RefusedError`` unless the samples are grey or RGB of a known kind."""
    remedy = "save it with 8 or 16 bits"
    if len(page.depths) != 1 or len(page.formats) != 1:
        raise RefusedError("its samples are of several kinds", remedy)
    (bits,), (what,) = page.depths, page.formats
    good = bits in range(1, 17) if what == UNSIGNED else what == FLOAT and bits in (16, 32, 64)
    if not good:
        raise RefusedError(f"its samples are {_KINDS.get(what, 'of an unknown kind')} of {bits} bits", remedy)
    if kind not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        names = {3: "a palette", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}
        raise RefusedError(f"its colours are {names.get(kind, 'not grey or RGB')} of {bits} bits", "convert it to RGB")
    if page.samples < (3 if kind == RGB else 1):
        raise RefusedError(f"RGB of {page.samples} samples", "save it anew as RGB")
    if page.number(COMPRESSION, 1) not in LOSSLESS:
        raise RefusedError(
            f"its samples of {bits} bits are compressed by method {page.number(COMPRESSION, 1)}",
            PLAINLY,
        )


def _plane(data: bytes, page: TiffPage, plane: int) -> np.ndarray:
    """(H, W, C): one plane, or all samples of a page that stores them side by side."""
    (bits,), (what,) = page.depths, page.formats
    width, height = page.size
    beside = 1 if page.is_planar else page.samples
    piece = page.number(TILE_WIDTH, 0) if TILES in page.tags else width
    if not piece:
        raise ValueError("its tiles have no size")
    stored = -(-width // piece) * piece  # tiles over the edge are stored whole
    rows = _unpacked(data, page, plane, -(-stored * beside * bits // 8))
    predictor = page.number(PREDICTOR, 1) if page.number(COMPRESSION, 1) in _WITH_PREDICTOR else 1
    if predictor != 1 and not (predictor == 2 and bits in _WHOLE_BYTES) and not (predictor == 3 and what == FLOAT):
        raise RefusedError(f"its samples of {bits} bits are stored as differences of kind {predictor}", PLAINLY)
    if bits not in _WHOLE_BYTES:
        return _from_packed(rows, stored * beside, bits).reshape(height, stored, beside)[:, :width]
    if predictor == 3:
        rows = _undo_float_differences(rows.reshape(-1, piece * beside * bits // 8), beside, bits // 8)
    code = _WHOLE_BYTES[bits]
    values = rows.view((">" if predictor == 3 else page.order) + code).astype(code, copy=False)
    if predictor == 2:  # whatever the bits mean
        values = _undo_differences(values.reshape(-1, piece, beside))
    if what == FLOAT:
        values = values.view(f"f{bits // 8}").astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise RefusedError("some of its samples are no numbers (NaN or infinite)", "save it without them")
    return np.require(values.reshape(height, stored, beside)[:, :width], requirements=("C", "W"))


def _unpacked(data: bytes, page: TiffPage, plane: int, row: int) -> np.ndarray:
    """(H, bytes of a row), unpacked by libtiff, which gets a directory that describes the samples as bytes."""
    width, height = page.size
    per_pixel = (1 if page.is_planar else page.samples) * max(page.depths)
    tags: dict[int, tuple[int, ...]] = {
        WIDTH: (row,),
        HEIGHT: (height,),
        BITS: (8,),
        COMPRESSION: (page.number(COMPRESSION, 1),),
        PHOTOMETRIC: (BLACK_IS_ZERO,),
        FILL_ORDER: (page.number(FILL_ORDER, 1),),
        277: (1,),
    }
    if TILES in page.tags:
        wide, high = page.number(TILE_WIDTH, 0), page.number(TILE_HEIGHT, 0)
        if not high or wide * per_pixel % 8:
            raise ValueError("its tiles have no size")
        if page.number(COMPRESSION, 1) == 1 and max(page.tags[TILES]) + wide * high * per_pixel // 8 > len(data):
            raise ValueError("its samples end early")
        count, places, lengths = -(-width // wide) * -(-height // high), TILES, TILE_BYTES
        tags |= {TILE_WIDTH: (wide * per_pixel // 8,), TILE_HEIGHT: (high,)}
    else:
        rows = min(page.number(ROWS, height), height) or height
        count, places, lengths = -(-height // rows), STRIPS, STRIP_BYTES
        tags[ROWS] = (rows,)
    own = slice(plane * count, (plane + 1) * count)
    starts, sizes = page.tags.get(places, ())[own], page.tags.get(lengths, ())[own]
    if page.number(COMPRESSION, 1) == 1 and count == 1 and places == STRIPS:
        sizes = (row * height,)  # old programs leave this tag out
    if len(starts) != count or len(sizes) != count or not all(starts) or not all(sizes):
        raise ValueError("parts of its samples are missing")
    if max(start + size for start, size in zip(starts, sizes, strict=True)) > len(data):
        raise ValueError("its samples end early")
    tags |= {places: starts, lengths: sizes}
    TiffImagePlugin.READ_LIBTIFF = True  # Pillow's own reader fails at tiles over the edge
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(_with_directory(data, tags)))
    image.load()
    return np.array(image)


def _with_directory(data: bytes, tags: dict[int, tuple[int, ...]]) -> bytes:
    """The file with another, little-endian directory at its end."""
    at = len(data) + len(data) % 2
    if at >= 2**32 - 2**20:
        raise ValueError("too large for its kind of compression")
    position, records, values = at + 2 + 12 * len(tags) + 4, b"", b""
    for tag, numbers in sorted(tags.items()):
        body = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            body, values = struct.pack("<I", position + len(values)), values + body
        records += struct.pack("<HHI", tag, 4, len(numbers)) + body
    directory = struct.pack("<H", len(tags)) + records + bytes(4) + values
    return b"".join((b"II*\0", struct.pack("<I", at), memoryview(data)[8:], bytes(len(data) % 2), directory))


def _from_packed(rows: np.ndarray, count: int, bits: int) -> np.ndarray:
    """(H, ``count``) samples from rows of packed bits, as 8 or 16 bits."""
    full = 255 if bits < 8 else 65535
    values = np.empty((len(rows), count), np.uint8 if bits < 8 else np.uint16)
    weights = 1 << np.arange(bits - 1, -1, -1, dtype=np.uint32)
    for top in range(0, len(rows), _BLOCK):
        single = np.unpackbits(rows[top : top + _BLOCK], axis=1, count=count * bits)
        block = single.reshape(-1, count, bits) @ weights
        values[top : top + _BLOCK] = (block * full + (2**bits - 1) // 2) // (2**bits - 1)
    return values


def _undo_differences(values: np.ndarray) -> np.ndarray:
    """TIFF 6.0, section 14: each sample is the sum of all to its left in its tile or strip, modulo its range.

    Args:
        values: (rows of tiles or strips, columns, samples), changed in place.
    """
    for top in range(0, len(values), _BLOCK):
        values[top : top + _BLOCK] = np.cumsum(values[top : top + _BLOCK], axis=1, dtype=values.dtype)
    return values


def _undo_float_differences(rows: np.ndarray, beside: int, size: int) -> np.ndarray:
    """Undo the floating-point predictor (TIFF Technical Note 3). The result is big-endian.

    In each row, all first bytes of the numbers come first, then all second bytes, and so on; differences are stored.

    Args:
        rows: (rows of tiles or strips, bytes).
        beside: samples of a pixel.
        size: bytes of a number.
    """
    summed = np.cumsum(rows.reshape(len(rows), -1, beside), axis=1, dtype=np.uint8).reshape(len(rows), size, -1)
    return np.ascontiguousarray(summed.transpose(0, 2, 1)).reshape(len(rows), -1)


def _free(colours: np.ndarray, alpha: np.ndarray) -> None:
    """Divide colours by their alpha, in place. Fully transparent pixels stay as they are."""
    for top in range(0, len(colours), _BLOCK):
        block, share = colours[top : top + _BLOCK], alpha[top : top + _BLOCK, :, None]
        if colours.dtype == np.float32:
            np.divide(block, share, out=block, where=share > 0)
            continue
        full = np.uint64(np.iinfo(colours.dtype).max)
        share = np.maximum(share.astype(np.uint64), 1)
        freed = np.minimum((block.astype(np.uint64) * full + share // 2) // share, full)  # NumPy 1 would multiply bytes
        block[...] = np.where(alpha[top : top + _BLOCK, :, None] > 0, freed, block)
