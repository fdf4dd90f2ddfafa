"""Read MATLAB files of the two kinds in which benchmarks are published: v5, and v7.3, which is HDF5."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.io

from atbsn.data.base import listing
from atbsn.utils.errors import UserError

if TYPE_CHECKING:
    import h5py

_HDF5 = b"\x89HDF\r\n\x1a\n"
"""How an HDF5 file begins."""
_USER_BLOCK = 512
"""Bytes that MATLAB writes before the HDF5 part."""


def v5_shape(path: Path, variable: str, dtype: str) -> tuple[int, ...]:
    """Read the shape of ``variable`` in a v5 file, without its values.

    Raises:
        UserError: there is no such file, it is of another kind, or has no such variable of type ``dtype``.
    """
    _check_kind(path, "v5")
    with _reading(path):
        found = scipy.io.whosmat(path)
    for name, shape, kind in found:
        if name == variable and kind == dtype:
            return tuple(shape)
    listed = ", ".join(f"{name} ({kind}, {' x '.join(map(str, shape))})" for name, shape, kind in found)
    raise UserError(f"{path}: no {dtype} variable '{variable}'; found: {listed or 'nothing'}; is it the right file?")


def read_v5(path: Path, variable: str) -> np.ndarray:
    """Read ``variable`` of a v5 file, in MATLAB's order, where the first axis is contiguous, so without a copy."""
    with _reading(path):
        return scipy.io.loadmat(path, variable_names=[variable])[variable]


@contextmanager
def open_v73(path: Path) -> Iterator["h5py.File"]:
    """Open a v7.3 file for reading. Errors in the ``with`` block become a ``UserError``. MATLAB's axes are reversed.

    Raises:
        UserError: there is no such file, it is of another kind, damaged, or lacks what is asked for; or h5py is not
            installed.
    """
    _check_kind(path, "v7.3")
    try:
        import h5py
    except ImportError:
        raise UserError(f"{path}: MATLAB v7.3 is HDF5, which h5py reads; pip install h5py") from None
    with _reading(path), h5py.File(path, "r") as file:
        yield file


def _check_kind(path: Path, expected: str) -> None:
    with _reading(path), path.open("rb") as file:
        start = file.read(_USER_BLOCK + len(_HDF5))
    if start.startswith(_HDF5) or start[_USER_BLOCK:] == _HDF5:
        kind = "v7.3"
    else:
        kind = "v5" if start.startswith(b"MATLAB 5.0 MAT-file") else ""
    if kind != expected:
        found = f"a MATLAB {kind} file" if kind else "no MATLAB file"
        raise UserError(f"{path}: {found}, but it is published as MATLAB {expected}; take the publisher's own file")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn any exception of a reader into a message that names the file."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; found there: {listing(path.parent)}") from None
    except KeyError as error:
        raise UserError(f"{path}: {error.args[0]}; is it the right file?") from None
    except Exception as error:  # readers raise nearly anything on damaged data
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{path}: cannot be read ({reason}); it may be damaged, download it again") from error
