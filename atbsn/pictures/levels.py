"""The value of white in files that use a part of their range, such as 12 of 16 bits, or that are floating-point."""

from typing import Literal

import numpy as np

from atbsn.pictures.metadata import RefusedError

_BLOCK = 256
"""Rows that are converted at a time. Chosen by hand."""
_USUAL = (1023, 4095, 16383)
"""White of 10, 12 and 14 bits. Laboratory cameras and scanners store such values in 16 bits unchanged."""
_NO_LIGHT = 2.0**32
"""Largest value that can be light. Chosen by hand: maps mark places without data by 1e38 and the like."""


def to_level(values: np.ndarray, white: float | Literal["auto"]) -> tuple[np.ndarray, float | None, tuple[str, ...]]:
    """Scale samples so that white becomes 65535, or 255 of float32.

    Args:
        values: (H, W, C), uint16 or float32, as in the file.
        white: the value of white; ``"auto"``: 65535, or for floating point 1 or the largest value, if that is larger.

    Returns:
        The samples; the value of white, for ``from_level``, or None if nothing changed; and warnings.

    Raises:
        RefusedError: floating point whose largest value cannot be light.
    """
    top = float(values.max(initial=0))
    if values.dtype == np.float32:
        if white == "auto" and top > _NO_LIGHT:
            raise RefusedError(f"its largest value is {top:.3g}, a mark rather than light", "tell white with --white N")
        level = max(1.0, top) if white == "auto" else white
        said = [f"floating point: {level:g} is taken for white"]
        if white == "auto":
            said[0] += "; --white tells another"
        if float(values.min(initial=0)) < 0:
            said.append("its values below 0 become 0")
        if top > level:
            said.append(f"its values above white, up to {top:g}, are cut to {level:g}")
        scaled = np.clip(values, 0, level, dtype=np.float32)
        scaled *= np.float32(255 / level)
        return np.minimum(scaled, 255, out=scaled), level, tuple(said)
    if white == "auto":
        usual = next((usual for usual in _USUAL if 0 < top <= usual), None)
        bits = usual and usual.bit_length()
        hint = f"no value is above {top:.0f} of 65535: if it has {bits} bits, give --white {usual}"
        return values, None, (hint,) if usual else ()
    if white >= 65535:
        return values, None, ()
    said = [f"its values above white, up to {top:.0f}, are cut to {white:g}"] if top > white else []
    return _scaled(values, 65535 / white), white, tuple(said)


def from_level(values: np.ndarray, level: float) -> np.ndarray:
    """Undo ``to_level``: uint16 samples as in the file. Unchanged samples get their old values."""
    return _scaled(values, level / 65535)


def _scaled(values: np.ndarray, factor: float) -> np.ndarray:
    result = np.empty(values.shape, np.uint16)
    for top in range(0, len(values), _BLOCK):
        block = values[top : top + _BLOCK] * factor
        result[top : top + _BLOCK] = np.minimum(block + 0.5, 65535)
    return result
