"""PPM and PGM (Netpbm's P2, P3, P5 and P6), of 8 and 16 bits: what dcraw and laboratory cameras write."""

import re
from mmap import mmap
from typing import BinaryIO

import numpy as np

from atbsn.pictures.formats.codec import Codec, Holds
from atbsn.pictures.metadata import Decoded, Metadata, RefusedError, Samples, check_pixels

_HEADER = re.compile(rb"P([2356])" + rb"(?:\s+(?:#[^\n]*\n\s*)*)(\d{1,9})" * 3 + rb"\s")
"""The header: kind, width, height, largest value; comments may stand between."""
_COMMENT = re.compile(rb"#[^\n]*")


class Ppm(Codec):
    """PPM and PGM. They hold samples alone; the header states the largest value, which is white."""

    name = "PPM"
    suffixes = (".ppm", ".pgm", ".pnm")
    holds = Holds(bits=16, icc=False, texts=False)
    states_white = True

    def sniff(self, data: bytes | mmap, suffix: str) -> bool:
        return data[:2] in (b"P2", b"P3", b"P5", b"P6") and data[2:3] in b" \t\n\r#"

    def read_size(self, file: BinaryIO, page: int | None) -> tuple[int, int]:
        _, width, height, _, _ = _header(file.read(4096))
        return height, width

    def decode(self, data: bytes, page: int | None) -> Decoded:
        kind, width, height, top, start = _header(data)
        shape = (height, width, 3 if kind in (3, 6) else 1)
        values: np.ndarray
        deep = top > 255
        if kind in (2, 3):
            numbers = _COMMENT.sub(b"", data[start:]).split()[: int(np.prod(shape))]
            if len(numbers) < np.prod(shape) or not all(map(bytes.isdigit, numbers)):
                raise ValueError("its numbers end early or are damaged")
            values = np.minimum([int(number) for number in numbers], top + 1).astype(np.uint32).reshape(shape)
        else:
            values = np.frombuffer(data, ">u2" if deep else np.uint8, int(np.prod(shape)), start).reshape(shape)
        if values.max(initial=0) > top:
            raise ValueError("a value above the largest one that it names")
        full = 65535 if deep else 255
        if top != full:
            values = (values.astype(np.uint32) * full + top // 2) // top
        return Decoded(Samples(values.astype(np.uint16 if deep else np.uint8)), Metadata())

    def encode(self, samples: Samples, picture: Metadata, quality: int | None) -> bytes:
        height, width, _ = samples.values.shape
        top = np.iinfo(samples.values.dtype).max
        values = samples.values.astype(samples.values.dtype.newbyteorder(">"))
        return b"P%d %d %d %d\n" % (6 if samples.colours == 3 else 5, width, height, top) + values.tobytes()


CODEC = Ppm()


def _header(data: bytes) -> tuple[int, int, int, int, int]:
    """Kind (2, 3, 5 or 6), width, height, largest value, and position of the first value."""
    found = _HEADER.match(data)
    if found is None:
        raise ValueError("its header is damaged")
    kind, width, height, top = (int(number) for number in found.groups())
    if not 0 < top < 65536:
        raise RefusedError(f"a largest value of {top}", "save it with 8 or 16 bits")
    check_pixels(width, height)
    return kind, width, height, top, found.end()
