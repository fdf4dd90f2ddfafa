"""Data sets of image stacks from microscopes and other instruments, plane by plane."""

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tifffile

from atbsn.data.base import ImageSet, White, picture_of
from atbsn.data.folder import relative_keys
from atbsn.data.volumes import DEPTHS, Layout, find_volumes, is_volume, layout_of, planes_of
from atbsn.pictures import Picture
from atbsn.registry import DATASETS
from atbsn.utils.errors import UserError


class Plane(NamedTuple):
    """One picture of a stack.

    Attributes:
        path: the file.
        place: index along each axis of the file that is neither a side nor a channel of the picture.
        key: name of the picture.
    """

    path: Path
    place: tuple[int, ...]
    key: str


@DATASETS.register
class Stack(ImageSet):
    """The planes of TIFF, OME-TIFF, ImageJ and Zarr stacks. The plane of each time, depth and channel is a picture.

    Of an OME-Zarr, the first image is taken, at full resolution. Zarr, of version 2 or 3, needs the extra ``[zarr]``.
    Of uncompressed files and of Zarr, only the planes that are needed are read. All planes of a set have the same
    scale, so a network sees a dark plane as dark.

    Args:
        dataroot: a stack, or a folder of stacks, searched recursively. If a Zarr group is not an OME-Zarr, name the
            array in it.
        dataroot_clean: the references: a stack, or a folder of stacks with the same names and axes.
        axes: a letter for each axis, such as ``ZCYX``, if the files do not tell them or tell them wrongly. Y and X are
            the sides of a picture, and C and S its channels. Each index along the others is a picture of its own.
        channels: ``apart``: every channel is a grey picture of its own, for a network with ``channels: 1``.
            ``together``: all channels are one picture, for a network with as many channels.
        white: the value of white, which is 255 in the network. ``auto``: the largest value of 8 or 16 bits; floating
            point needs a value. Values above it are not clipped.

    Raises:
        UserError: there is no such file or folder; a file is no stack; samples are neither unsigned integers of 8 or 16
            bits nor floating point; floating point without ``white``; or axes or references do not fit.
    """

    def __init__(
        self,
        dataroot: str | Path,
        dataroot_clean: str | Path | None = None,
        axes: str | None = None,
        channels: Literal["apart", "together"] = "apart",
        white: White = "auto",
    ) -> None:
        self.together, self.white = channels == "together", white
        root = Path(dataroot)
        files = find_volumes(root)
        self._layouts = {path: layout_of(path, axes) for path in files}
        names = relative_keys(files, root if root not in files else root.parent)
        self._planes = [plane for path, name in zip(files, names, strict=True) for plane in self._planes_of(path, name)]
        self._clean: dict[Path, Path] = {}
        if dataroot_clean is not None:
            self._clean = _references(files, root, Path(dataroot_clean))
            self._layouts |= {path: layout_of(path, axes) for path in self._clean.values()}
        self.has_clean = bool(self._clean)
        for path, layout in self._layouts.items():
            if layout.dtype.kind == "f" and white == "auto":
                raise UserError(f"{path}: floating point; say which value is white, such as white: 1.0")
        for noisy, clean in self._clean.items():
            if self._layouts[noisy][:2] != self._layouts[clean][:2]:
                sizes = " and ".join(
                    f"{self._layouts[path].axes} {self._layouts[path].shape}" for path in (noisy, clean)
                )
                raise UserError(f"{clean}: not of the shape of {noisy} ({sizes}); a reference has the same planes")

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        tifffile.imwrite(folder / "stack.tif", rng.integers(0, 256, (5, 40, 52), np.uint8), metadata={"axes": "ZYX"})
        return {"dataroot": str(folder)}

    def __len__(self) -> int:
        return len(self._planes)

    def key(self, index: int) -> str:
        return self._planes[index].key

    def size(self, index: int) -> tuple[int, int]:
        layout = self._layouts[self._planes[index].path]
        return layout.shape[layout.axes.index("Y")], layout.shape[layout.axes.index("X")]

    def read(self, index: int) -> Picture:
        plane = self._planes[index]
        return self._picture(plane.path, plane.place)

    def read_clean(self, index: int) -> Picture:
        plane = self._planes[index]
        return self._picture(self._clean[plane.path], plane.place) if self._clean else super().read_clean(index)

    def suffix(self, index: int) -> str:
        """``.tif``, since TIFF holds any number of channels, and floating point."""
        del index
        return ".tif"

    def groups(self, index: int) -> dict[str, str]:
        """The channel of a plane, if each channel is a picture of its own."""
        plane = self._planes[index]
        letters = self._numbering(self._layouts[plane.path])
        return {"channel": str(plane.place[letters.index("C")])} if "C" in letters else {}

    def _numbering(self, layout: Layout) -> str:
        """The letters of the axes along which there are different pictures."""
        return "".join(letter for letter in layout.axes if letter not in ("YXCS" if self.together else "YX"))

    def _planes_of(self, path: Path, name: str) -> list[Plane]:
        layout = self._layouts[path]
        letters = self._numbering(layout)
        lengths = [layout.shape[layout.axes.index(letter)] for letter in letters]
        planes = []
        for number in range(prod(lengths)):
            place = tuple(int(each) for each in np.unravel_index(number, lengths)) if letters else ()
            named = (
                f"{letter.lower()}{each:0{len(str(length - 1))}d}"
                for letter, each, length in zip(letters, place, lengths, strict=True)
                if length > 1
            )
            planes.append(Plane(path, place, "/".join(filter(None, (name, "_".join(named))))))
        return planes

    def _picture(self, path: Path, place: tuple[int, ...]) -> Picture:
        layout = self._layouts[path]
        letters = self._numbering(layout)
        chosen = tuple(place[letters.index(letter)] if letter in letters else slice(None) for letter in layout.axes)
        left = "".join(letter for letter in layout.axes if letter not in letters)
        values = planes_of(path, chosen)
        values = values.transpose([left.index(letter) for letter in sorted(left, key="YXCS".index)])
        samples = self._scaled(np.ascontiguousarray(values.reshape(*values.shape[:2], -1)), path)
        level = None if self.white == "auto" else float(self.white)  # results are written with this white
        return replace(picture_of(samples), suffix=".tif", white=level)

    def _scaled(self, samples: np.ndarray, path: Path) -> np.ndarray:
        if samples.dtype.kind == "f":
            scaled = samples.astype(np.float32) * np.float32(255 / float(self.white))
            if not np.isfinite(scaled).all():
                raise UserError(f"{path}: holds numbers that are not finite; repair it")
            return scaled
        if self.white == "auto" or self.white == DEPTHS[samples.dtype]:
            return samples
        return samples.astype(np.float32) * np.float32(255 / self.white)


def _references(files: list[Path], root: Path, clean_root: Path) -> dict[Path, Path]:
    if is_volume(clean_root) and len(files) == 1:
        return {files[0]: clean_root}
    pairs = {path: clean_root / (path.name if path == root else path.relative_to(root)) for path in files}
    missing = [clean for clean in pairs.values() if not is_volume(clean)]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(f"{missing[0]}{more}: no such file; every stack needs a reference of its name")
    return pairs
