"""Make ICC profiles (ICC.1:2022, version 4.3) from primaries and a curve."""

import struct
from typing import NamedTuple

import numpy as np

_D50 = np.array([0.9642, 1.0, 0.8249])
"""XYZ of ICC's white point, to which profiles are adapted (7.2.16)."""
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
"""The Bradford matrix, from XYZ to cone responses, by which white points are adapted (ICC.1, annex E)."""
_DATE = (2000, 1, 1, 0, 0, 0)
"""Date of profiles: always the same, so that equal pictures give equal files."""

Place = tuple[float, float]
"""CIE 1931 chromaticity x and y."""


class Curve(NamedTuple):
    """From encoded x to linear light: (a x + b) ** gamma for x >= d, otherwise c x (ICC's parametric curve, type 3)."""

    gamma: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0


SRGB = Curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""sRGB's curve (IEC 61966-2-1)."""


def rgb_profile(name: str, red: Place, green: Place, blue: Place, white: Place, curve: Curve) -> bytes:
    """A profile for RGB with these primaries, and with one curve for all channels."""
    primaries = np.stack([_xyz(place) for place in (red, green, blue)], axis=1)
    adapt = _adaptation(_xyz(white))
    columns = adapt @ (primaries * np.linalg.solve(primaries, _xyz(white)))
    tags = [(b"rXYZ", b"gXYZ", b"bXYZ")[n] for n in range(3)]
    bodies = {tag: _numbers(b"XYZ ", columns[:, n]) for n, tag in enumerate(tags)}
    bodies |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(curve))
    return _profile(b"RGB ", name, bodies | {b"chad": _numbers(b"sf32", adapt.ravel())})


def grey_profile(name: str, white: Place, curve: Curve) -> bytes:
    """A profile for grey with this white point and curve."""
    adapt = _adaptation(_xyz(white))
    return _profile(b"GRAY", name, {b"kTRC": _curve(curve), b"chad": _numbers(b"sf32", adapt.ravel())})


def _xyz(place: Place) -> np.ndarray:
    x, y = place
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adaptation(white: np.ndarray) -> np.ndarray:
    """The matrix that adapts XYZ from ``white`` to D50."""
    return np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white)) @ _BRADFORD


def _numbers(kind: bytes, values: np.ndarray) -> bytes:
    """A tag of fixed-point numbers: 32 bits with 16 fractional bits."""
    return kind + bytes(4) + b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)


def _curve(curve: Curve) -> bytes:
    return _numbers(b"para", np.array(curve)).replace(b"para" + bytes(4), b"para" + bytes(4) + b"\0\3\0\0", 1)


def _text(text: str) -> bytes:
    body = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">III2s2sII", 0, 1, 12, b"en", b"US", len(body), 28) + body


def _profile(space: bytes, name: str, bodies: dict[bytes, bytes]) -> bytes:
    bodies = {
        b"desc": _text(name),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _numbers(b"XYZ ", _D50),
        **bodies,
    }
    at, places, content = 128 + 4 + 12 * len(bodies), dict[bytes, int](), b""
    table = struct.pack(">I", len(bodies))
    for tag, body in bodies.items():
        if body not in places:
            places[body] = at + len(content)
            content += body + bytes(-len(body) % 4)
        table += tag + struct.pack(">II", places[body], len(body))
    header = struct.pack(">I4xI4s4s4s6H4s", at + len(content), 0x04300000, b"mntr", space, b"XYZ ", *_DATE, b"acsp")
    return header.ljust(68, b"\0") + _numbers(b"", _D50)[4:].ljust(60, b"\0") + table + content
