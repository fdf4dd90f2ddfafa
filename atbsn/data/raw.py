"""Raw files of cameras, undeveloped."""

from pathlib import Path
from typing import Any

import numpy as np

from atbsn.data.base import listing
from atbsn.data.folder import NoisyFolder, StoredSet
from atbsn.data.mat import open_v73
from atbsn.pictures import Picture, formats, raw_size, read_raw, write_picture
from atbsn.pictures.mosaic import CHANNELS, Mosaic, pack
from atbsn.pictures.targets import RAW_TARGET
from atbsn.registry import DATASETS
from atbsn.utils.errors import UserError

_MAT, _VARIABLE = ".mat", "x"
_SIDD = {"GP": (1, 1), "IP": (0, 0), "S6": (0, 1), "N6": (1, 1), "G4": (1, 1)}
"""Row and column of the first red pixel of SIDD's phones: Pixel, iPhone 7, Galaxy S6, Nexus 6, G4. In its
metadata files BGGR, RGGB, GRBG, BGGR, BGGR."""
_SIDD_WHITE = 65535
"""The level that 1.0 becomes in a DNG of SIDD's numbers."""


@DATASETS.register
class RawFolder(NoisyFolder):
    """The Bayer mosaics of camera raw files, or of one, linear and undeveloped, for networks with ``channels: 4``.

    A picture has half the height and width of its mosaic, and 4 channels: R, G, G, B of every 2 x 2 pixels, whichever
    of them the sensor begins with; (raw - black) / (white - black) x 255, float32. Nothing is cut off: noise goes below
    black. Only the pixels that see light are there. Train with ``use_flip: false, use_rot: false``: a mirrored cell has
    its colours in other places.

    DNG and the raw files of cameras need the extra ``[photos]``. ``.MAT`` is as SIDD publishes its raw data: MATLAB
    v7.3 (with h5py), black 0 and white 1, in folders whose names tell the phone, ``0001_001_S6_...``; of its pairs the
    noisy one.

    Args:
        dataroot: a folder, searched recursively, or one file.

    Raises:
        UserError: nothing there, or no raw file in it. Reading raises it for a sensor without a Bayer mosaic (X-Trans,
            Foveon, monochrome) and for raw files that are developed to colours already; a training leaves them out.
    """

    def __init__(self, dataroot: str | Path) -> None:
        StoredSet.__init__(self, dataroot, "disk", raw_paths)

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        for name, phase in (("one", (0, 0)), ("two", (1, 0))):
            mosaic = Mosaic((80, 104), phase, (64, 64, 64, 64), 1023)
            cells = rng.uniform(0, 255, (40 + phase[0], 52, 4)).astype(np.float32)
            write_picture(folder / f"{name}.dng", Picture(cells, mosaic=mosaic))
        return {"dataroot": str(folder)}

    def read(self, index: int) -> Picture:
        path = self.paths[index]
        return _read_sidd(path) if path.suffix.lower() == _MAT else read_raw(path)

    def size(self, index: int) -> tuple[int, int]:
        path = self.paths[index]
        if path.suffix.lower() != _MAT:
            return raw_size(path)
        down, right = _sidd_phase(path)
        with open_v73(path) as file:
            width, height = file[_VARIABLE].shape
        return -(-(height + down) // 2), -(-(width + right) // 2)

    def channels(self) -> frozenset[int]:
        return frozenset({CHANNELS})

    def suffix(self, index: int) -> str:
        del index
        return RAW_TARGET


def raw_paths(root: Path) -> list[Path]:
    """The raw file ``root`` itself, or all below the folder ``root``, sorted, but for SIDD's references.

    Raises:
        UserError: nothing there, or no raw file in it.
    """
    if not root.exists():
        raise UserError(f"{root}: no such file or folder; check the path")
    known = formats.RAW | {_MAT}
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    found = [path for path in files if path.suffix.lower() in known and "_GT_RAW" not in path.name.upper()]
    found = [path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    if not found:
        raise UserError(f"{root}: no raw file in it ({', '.join(sorted(known))}); found: {listing(root)}")
    return found


def _read_sidd(path: Path) -> Picture:
    phase = _sidd_phase(path)
    with open_v73(path) as file:
        values = np.asarray(file[_VARIABLE], np.float32).T
        if values.ndim != 2:
            raise UserError(f"{path}: {values.shape} numbers, not rows and columns of a mosaic; is it the right file?")
    if not np.isfinite(values).all():
        raise UserError(f"{path}: holds numbers that are not finite; download it again")
    mosaic = Mosaic(values.shape, phase, (0, 0, 0, 0), _SIDD_WHITE)
    return Picture(pack(values * 255, phase), suffix=RAW_TARGET, mosaic=mosaic)


def _sidd_phase(path: Path) -> tuple[int, int]:
    """By the phone in the name of a folder above: ``<instance>_<scene>_<phone>_<ISO>_...``."""
    for name in reversed(path.parent.parts):
        phone = name.split("_")[2:3]
        if phone and phone[0] in _SIDD:
            return _SIDD[phone[0]]
    raise UserError(
        f"{path}: no folder above it tells the phone, as SIDD's 0001_001_S6_00100_00060_3200_L does, and with it where "
        "red is; keep the publisher's folders"
    )
