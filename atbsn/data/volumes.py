"""Find and read files that hold many planes: TIFF and Zarr."""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import tifffile

from atbsn.data.base import listing
from atbsn.utils.errors import UserError
from atbsn.utils.files import FileVersion, version_of

_SUFFIXES = frozenset({".tif", ".tiff", ".btf", ".lsm"})
"""Suffixes of TIFF files."""
_MARKS = ("zarr.json", ".zarray", ".zgroup")
"""Files that a folder has if it is a Zarr store, of version 3 or of version 2."""
DEPTHS = {np.dtype(kind): 2 ** (8 * np.dtype(kind).itemsize) - 1 for kind in (np.uint8, np.uint16)}
"""The integer types that are read, with the largest value of each."""
_ONE_AT_A_TIME = Lock()
"""If several threads need planes of one compressed file, one of them decodes it."""


class Layout(NamedTuple):
    """How a volume holds its pictures.

    Attributes:
        axes: a letter for each axis, as in OME: T time, Z depth, C channel, S sample of a colour, Y, X.
        shape: length along each axis.
        dtype: type of the samples.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype


def is_volume(path: Path) -> bool:
    """Whether ``path`` is a file or a Zarr store."""
    return path.is_file() or _is_store(path)


def find_volumes(root: Path) -> list[Path]:
    """List ``root`` itself, or the TIFF files and Zarr stores below it; stores are not searched.

    Raises:
        UserError: there are none.
    """
    if is_volume(root):
        return [root]
    found = sorted(_volumes_in(root))
    if not found:
        raise UserError(f"{root}: no stack in it ({', '.join(sorted(_SUFFIXES))}, Zarr); found: {listing(root)}")
    return found


def layout_of(path: Path, axes: str | None) -> Layout:
    """Read the layout of the volume ``path``. The user's ``axes``, if given, replace those in the file.

    Raises:
        UserError: it cannot be read, its samples are of another kind, or the axes do not fit.
    """
    found, shape, dtype = _layout_of_store(path) if _is_store(path) else _layout_of_tiff(path)
    axes = axes or found
    sides = " x ".join(map(str, shape))
    if axes is None:
        raise UserError(f"{path}: does not say what its axes are, {sides}; give a letter for each, such as axes: TZYX")
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
        given = sides if found is None else f"{found} {sides}"
        raise UserError(f"{path}: axes: '{axes}' does not fit {given}; give a letter for each, Y and X among them")
    dtype = dtype.newbyteorder("=")
    if dtype not in DEPTHS and dtype.kind != "f":
        raise UserError(f"{path}: samples of {dtype}; save it as unsigned integers of 8 or 16 bits, or floating point")
    return Layout(axes, shape, dtype)


def planes_of(path: Path, chosen: tuple[int | slice, ...]) -> np.ndarray:
    """Read the samples of the volume ``path`` at ``chosen``, in the machine's byte order.

    Of a Zarr store and of an uncompressed TIFF, only these samples are read.

    Args:
        chosen: an index or a slice for each axis.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with _ONE_AT_A_TIME:
            volume = _opened(version_of(path))
        values = np.asarray(volume[chosen])
    except UserError:
        raise
    except Exception as error:  # decoders raise nearly anything on corrupt data
        raise UserError(f"{path}: cannot be read ({error}); repair or remove it") from error
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _volumes_in(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        stores = [name for name in folders if _is_store(Path(folder, name))]
        folders[:] = [name for name in folders if name not in stores]
        yield from (Path(folder, name) for name in stores)
        yield from (Path(folder, name) for name in names if Path(name).suffix.lower() in _SUFFIXES)


def _is_store(path: Path) -> bool:
    return any((path / mark).is_file() for mark in _MARKS)


@lru_cache(maxsize=2)
def _opened(file: FileVersion) -> Any:
    """Open a volume: a TIFF, mapped into memory unless it is compressed, or the array of a store, read when used."""
    path = file.path
    if _is_store(path):
        return _array_of(path)[0]
    try:
        return tifffile.memmap(path, mode="r", series=0)
    except ValueError:  # compressed, or in pieces
        return tifffile.imread(path, series=0)


def _layout_of_tiff(path: Path) -> tuple[str, tuple[int, ...], np.dtype]:
    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            return series.axes, tuple(series.shape), np.dtype(series.dtype)
    except (tifffile.TiffFileError, OSError, IndexError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a TIFF stack ({error}); repair or remove it") from None


def _layout_of_store(path: Path) -> tuple[str | None, tuple[int, ...], np.dtype]:
    array, names = _array_of(path)
    axes = None if names is None else "".join(str(name)[:1].upper() for name in names)
    return axes or ("YX" if len(array.shape) == 2 else None), tuple(array.shape), np.dtype(array.dtype)


def _array_of(path: Path) -> tuple[Any, list[str] | None]:
    """Open the array of a store and find the names of its axes.

    Of an OME-Zarr, 0.4 or 0.5, it is the first image at full resolution.

    Raises:
        UserError: the extra is missing, the store cannot be read, or there is no such array.
    """
    try:
        import zarr
    except ImportError:
        raise UserError(f"{path}: a Zarr store; pip install 'atbsn[zarr]' to read it") from None
    try:
        found = zarr.open(str(path), mode="r")
        group = found
        if not hasattr(found, "shape") and _multiscales(found) is None and "0" in found:
            group = found["0"]  # bioformats2raw puts every image into a group, which has its number as the name
        if hasattr(group, "shape"):
            return group, _names_of(group)
        scales = _multiscales(group)
        if scales is not None:
            axes = [axis["name"] if isinstance(axis, dict) else axis for axis in scales.get("axes", ())]
            array = group[scales["datasets"][0]["path"]]
            return array, axes or _names_of(array)
        inside = sorted(name for name, _ in group.arrays())
    except Exception as error:  # a damaged or newer store may raise anything
        raise UserError(
            f"{path}: cannot be read as Zarr by zarr {zarr.__version__} ({type(error).__name__}: {error}); repair it, "
            "or install a newer zarr (version 3 of the format needs zarr 3)"
        ) from error
    raise UserError(
        f"{path}: a group without multiscales; name the array in it, such as {path / inside[0]}"
        if inside
        else f"{path}: a Zarr group without an array; name the group or array that is meant"
    )


def _multiscales(group: Any) -> dict[str, Any] | None:
    """Read OME-Zarr's description of the first image: 0.4 has it at the top of the attributes, 0.5 below ``ome``."""
    attributes = dict(group.attrs)
    found = attributes.get("ome", attributes).get("multiscales")
    return found[0] if found else None


def _names_of(array: Any) -> list[str] | None:
    """Read the names of the axes. Zarr 3 has them, and xarray writes them into version 2."""
    names = getattr(array.metadata, "dimension_names", None) if hasattr(array, "metadata") else None
    names = names or dict(array.attrs).get("_ARRAY_DIMENSIONS")
    return list(names) if names and all(names) else None
