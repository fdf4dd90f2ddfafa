"""Data sets of the raw files of cameras, which are not developed."""

from pathlib import Path
from typing import Any

import numpy as np

from atbsn.data.base import listing
from atbsn.data.folder import NoisyFolder, StoredSet
from atbsn.data.mat import open_v73, read_v5, v5_shape
from atbsn.data.sidd import PUBLISHED_BLOCKS, PublishedBlocks, read_scenes, scene_groups, times
from atbsn.pictures import Picture, formats, raw_size, read_raw, write_picture
from atbsn.pictures.mosaic import CHANNELS, Mosaic, pack
from atbsn.pictures.targets import RAW_TARGET
from atbsn.registry import DATASETS
from atbsn.utils.errors import UserError

_MAT, _VARIABLE = ".mat", "x"
"""Suffix of SIDD's raw files, and the name of the mosaic in them."""
_SIDD = {"GP": (1, 1), "IP": (0, 0), "S6": (0, 1), "N6": (1, 1), "G4": (1, 1)}
"""Row and column of the first red pixel for SIDD's phones: Pixel, iPhone 7, Galaxy S6, Nexus 6, G4. SIDD's metadata
files say BGGR, RGGB, GRBG, BGGR, BGGR."""
_SIDD_WHITE = 65535
"""The white level of a DNG of SIDD's data, which are floats with white at 1: the largest of 16 bits."""


@DATASETS.register
class RawFolder(NoisyFolder):
    """The Bayer mosaics of one or more camera raw files, linear, not developed, for networks with ``channels: 4``.

    A picture has half the height and width of its mosaic and 4 channels: R, G, G, B of every 2 x 2 pixels, whatever
    colour the sensor begins with. Its values are (raw - black) / (white - black) x 255, float32. They are not clipped,
    so noise goes below black. Masked border pixels of the sensor are left out. Train with ``use_flip: false, use_rot:
    false``, because the colours of a mirrored cell are in other places.

    DNG and the raw files of cameras need the extra ``[photos]``. ``.MAT`` files are SIDD's raw data: MATLAB v7.3 (with
    h5py), black 0 and white 1, in folders whose names tell the phone, ``0001_001_S6_...``. Of SIDD's pairs, the noisy
    file is taken.

    Args:
        dataroot: a folder, searched recursively, or one file.

    Raises:
        UserError: there is no such file or folder, or no raw file in it. Reading a picture raises it for a sensor
            without a Bayer mosaic (X-Trans, Foveon, monochrome) and for raw files that are already developed to
            colours; a training leaves these out.
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


@DATASETS.register
class SIDDRawValidation(PublishedBlocks):
    """SIDD's validation blocks as raw data, with references: 40 images x 32 blocks of 256x256, for ``channels: 4``.

    Pictures are as those of ``RawFolder``: R, G, G, B, black 0 and white 255. If the mosaic of a phone does not begin
    with red, cells at the edge are completed by reflection, so pixels of the outermost rows and columns count twice.

    Args:
        dataroot: folder with ``ValidationNoisyBlocksRaw.mat`` and ``ValidationGtBlocksRaw.mat`` as SIDD publishes them:
            MATLAB v5, one variable named as the file, single (images, blocks, H, W), black 0 and white 1.
        scenes: a text file with the name of the scene instance of each image, one in each line, in the order of the
            images. The MATLAB files do not tell which phone took them, and so where red is.

    Raises:
        UserError: a file is missing, damaged, of another kind or shape; or scenes are missing, named twice, malformed,
            or of a phone that is not one of SIDD's.
    """

    has_clean = True

    def __init__(self, dataroot: str | Path, scenes: str | Path) -> None:
        noisy, clean = (Path(dataroot) / f"Validation{kind}BlocksRaw.mat" for kind in ("Noisy", "Gt"))
        self.shape = _raw_block_shape(noisy)
        if _raw_block_shape(clean) != self.shape:
            raise UserError(f"{clean}: {times(_raw_block_shape(clean))}, but {noisy.name} has {times(self.shape)}")
        self._scenes = read_scenes(Path(scenes), self.shape[0])
        self._phases = [_phase_of_instance(name) for name in self._scenes]
        for name, phase in zip(self._scenes, self._phases, strict=True):
            if phase is None:
                raise UserError(f"{scenes}: '{name}' is of no phone of SIDD's ({', '.join(_SIDD)}); correct the name")
        self._noisy, self._clean = (read_v5(path, path.stem) for path in (noisy, clean))

    def size(self, index: int) -> tuple[int, int]:
        down, right = self._phase(index)
        return -(-(self.shape[2] + down) // 2), -(-(self.shape[3] + right) // 2)

    def read(self, index: int) -> Picture:
        return _picture(self._noisy[divmod(index, self.shape[1])], self._phase(index))

    def read_clean(self, index: int) -> Picture:
        return _picture(self._clean[divmod(index, self.shape[1])], self._phase(index))

    def groups(self, index: int) -> dict[str, str]:
        instance = self._scenes[index // self.shape[1]]
        return {"instance": instance, **scene_groups(instance)}

    def channels(self) -> frozenset[int]:
        return frozenset({CHANNELS})

    def suffix(self, index: int) -> str:
        del index
        return RAW_TARGET

    def _phase(self, index: int) -> tuple[int, int]:
        phase = self._phases[index // self.shape[1]]
        assert phase is not None, "checked when it is made"
        return phase


def raw_paths(root: Path) -> list[Path]:
    """List the raw file ``root`` itself, or all raw files below the folder ``root``, sorted, without SIDD's references.

    Raises:
        UserError: there is no such file or folder, or no raw file in it.
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
    return _picture(values, phase)


def _picture(values: np.ndarray, phase: tuple[int, int]) -> Picture:
    """Make a picture of a mosaic (H, W), float, with black at 0 and white at 1."""
    height, width = values.shape
    mosaic = Mosaic((height, width), phase, (0, 0, 0, 0), _SIDD_WHITE)
    return Picture(pack(values.astype(np.float32) * 255, phase), suffix=RAW_TARGET, mosaic=mosaic)


def _raw_block_shape(path: Path) -> tuple[int, ...]:
    shape = v5_shape(path, path.stem, "single")
    if len(shape) != len(PUBLISHED_BLOCKS) - 1:
        published = times(PUBLISHED_BLOCKS[:-1])
        raise UserError(f"{path}: {path.stem} is {times(shape)}, not (images, blocks, H, W) as {published}")
    return shape


def _sidd_phase(path: Path) -> tuple[int, int]:
    """Find the phase of a mosaic by the phone in the name of a folder above: ``<instance>_<scene>_<phone>_...``."""
    for name in reversed(path.parent.parts):
        phase = _phase_of_instance(name)
        if phase is not None:
            return phase
    raise UserError(
        f"{path}: no folder above it tells the phone, as SIDD's 0001_001_S6_00100_00060_3200_L does, and with it where "
        "red is; keep the publisher's folders"
    )


def _phase_of_instance(name: str) -> tuple[int, int] | None:
    """Find the phase of the mosaic of a scene instance; None if its name has none of SIDD's phones."""
    return _SIDD.get((name.split("_")[2:3] or [""])[0])
