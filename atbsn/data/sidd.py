"""SIDD, sRGB: photographs of smartphones, with averages of many shots as references (Abdelhamed et al., CVPR 2018)."""

import re
from pathlib import Path, PurePosixPath

import numpy as np

from atbsn.data.base import ImageSet, listing
from atbsn.data.folder import IoBackend, StoredSet
from atbsn.data.mat import read_v5, v5_shape
from atbsn.pictures import Picture, image_paths, read_picture
from atbsn.registry import DATASETS
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger

PUBLISHED_BLOCKS = (40, 32, 256, 256, 3)
"""Shape of the validation and benchmark blocks: images, blocks of each image, height, width, RGB."""
_INSTANCE = re.compile(
    r"(?P<instance>\d{4})_(?P<scene>\d{3})_(?P<phone>[A-Z0-9]+)_(?P<iso>\d{5})_(?P<shutter>\d{5})_\d{4}_[A-Z]"
)
"""The name of a scene instance, which is that of its folder."""
_NAMED = "<instance>_<scene>_<phone>_<ISO>_<shutter>_<temperature>_<brightness>, as 0001_001_S6_00100_00060_3200_L"


def scene_groups(instance: str) -> dict[str, str]:
    """Find scene, phone and ISO in the name of a scene instance; empty if it is no such name."""
    match = _INSTANCE.fullmatch(instance)
    return {} if match is None else {"scene": match["scene"], "phone": match["phone"], "iso": str(int(match["iso"]))}


@DATASETS.register
class SIDDMedium(StoredSet):
    """The noisy pictures of SIDD-Medium sRGB (or of SIDD-Small, which has the same layout): 160 scenes, 320 pictures.

    The name of a scene's folder has scene, phone and ISO, which ``groups`` gives. If every picture has its reference
    beside it, the set can also be scored. Training never reads the references.

    Args:
        dataroot: the unpacked ``SIDD_Medium_Srgb``, or its ``Data``, or what ``atbsn prepare sidd`` made.
        io_backend: ``lmdb`` if ``dataroot`` is an LMDB that ``atbsn prepare`` made.

    Raises:
        UserError: the layout is another one, a scene is there twice, or a scene has no noisy pictures.
    """

    def __init__(self, dataroot: str | Path, io_backend: IoBackend = "disk") -> None:
        data = Path(dataroot) / "Data"
        super().__init__(data if data.is_dir() else dataroot, io_backend, _noisy_paths)
        self.has_clean = bool(self.paths) and all(_clean_path(path).is_file() for path in self.paths)

    def read_clean(self, index: int) -> Picture:
        return read_picture(_clean_path(self.paths[index])) if self.has_clean else super().read_clean(index)

    def groups(self, index: int) -> dict[str, str]:
        return scene_groups(PurePosixPath(self.key(index)).parent.name)


class PublishedBlocks(ImageSet):
    """Blocks of images, as SIDD publishes them: ``shape`` begins with the number of images and that of blocks each."""

    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    def key(self, index: int) -> str:
        image, block = divmod(index, self.shape[1])
        return f"{image:02d}_{block:02d}"


class BlockSet(PublishedBlocks):
    """Blocks of a .mat file of SIDD, which is read once and kept in memory.

    Args:
        path: ``<variable>.mat`` with (images, blocks, H, W, 3) uint8.
    """

    def __init__(self, path: Path) -> None:
        self.shape = _block_shape(path)
        if self.shape != PUBLISHED_BLOCKS:
            logger.warning(
                "%s: %s; the published set is %s, and figures of another do not compare", path,
                times(self.shape), times(PUBLISHED_BLOCKS),
            )  # fmt: skip
        self._noisy = read_v5(path, path.stem)

    def size(self, index: int) -> tuple[int, int]:
        return self.shape[2], self.shape[3]

    def read(self, index: int) -> Picture:
        return self._picture(self._noisy, index)

    def preload(self) -> None:
        """Do nothing: the blocks are in memory."""

    def crop(self, index: int, top: int, left: int, size: int) -> np.ndarray:
        block = self._noisy[divmod(index, self.shape[1])]
        return block[top : top + size, left : left + size]

    def _picture(self, blocks: np.ndarray, index: int) -> Picture:
        return Picture(np.ascontiguousarray(blocks[divmod(index, self.shape[1])]))


@DATASETS.register
class SIDDValidation(BlockSet):
    """The 1280 validation blocks with references: 40 images x 32 blocks of 256x256.

    The files do not tell which scene an image shows. Without ``scenes``, ``groups`` gives the number of the image; with
    it, also scene, phone and ISO.

    Args:
        dataroot: folder with ``ValidationNoisyBlocksSrgb.mat`` and ``ValidationGtBlocksSrgb.mat``.
        scenes: a text file with the name of the scene instance of each image, one in each line, in the order of the
            images.

    Raises:
        UserError: a file is missing, damaged, of another kind or shape; or scenes are missing, named twice or
            malformed.
    """

    has_clean = True

    def __init__(self, dataroot: str | Path, scenes: str | Path | None = None) -> None:
        noisy, clean = (Path(dataroot) / f"Validation{kind}BlocksSrgb.mat" for kind in ("Noisy", "Gt"))
        if _block_shape(clean) != _block_shape(noisy):
            raise UserError(f"{clean}: {times(_block_shape(clean))}, but {noisy.name} has {times(_block_shape(noisy))}")
        super().__init__(noisy)
        self._clean = read_v5(clean, clean.stem)
        self._scenes = None if scenes is None else read_scenes(Path(scenes), self.shape[0])

    def read_clean(self, index: int) -> Picture:
        return self._picture(self._clean, index)

    def groups(self, index: int) -> dict[str, str]:
        image = index // self.shape[1]
        if self._scenes is None:
            return {"instance": f"{image:02d}"}
        return {"instance": self._scenes[image], **scene_groups(self._scenes[image])}


@DATASETS.register
class SIDDBenchmark(BlockSet):
    """The 1280 benchmark blocks, whose references are not published; ``atbsn test`` writes the submission.

    Args:
        dataroot: folder with ``BenchmarkNoisyBlocksSrgb.mat``.

    Raises:
        UserError: the file is missing, damaged, of another kind or shape.
    """

    submission = "sidd"

    def __init__(self, dataroot: str | Path) -> None:
        super().__init__(Path(dataroot) / "BenchmarkNoisyBlocksSrgb.mat")


def _noisy_paths(data: Path) -> list[Path]:
    """List the noisy pictures below ``data``, and check the layout."""
    paths = [path for path in image_paths(data) if "_NOISY_SRGB" in path.name] if data.is_dir() else []
    if not paths:
        raise UserError(
            f"{data}: no *_NOISY_SRGB_*.PNG below it; it needs folders named {_NAMED}; found: {listing(data)}; for "
            "other pictures use NoisyFolder"
        )
    folders: dict[str, Path] = {}
    for folder in sorted({path.parent for path in paths}):
        match = _INSTANCE.fullmatch(folder.name)
        if match is None:
            raise UserError(f"{folder}: not the name of a scene folder, {_NAMED}; for other pictures use NoisyFolder")
        first = folders.setdefault(match["instance"], folder)
        if first != folder:
            raise UserError(f"{folder}: scene instance {match['instance']} is in {first} too; remove one of them")
    for folder in sorted(path for path in data.iterdir() if _INSTANCE.fullmatch(path.name)):
        if folder not in folders.values():
            raise UserError(f"{folder}: no noisy picture of this scene (*_NOISY_SRGB_*.PNG); unpack the data set again")
    return paths


def _clean_path(noisy: Path) -> Path:
    return noisy.with_name(noisy.name.replace("_NOISY_", "_GT_"))


def _block_shape(path: Path) -> tuple[int, ...]:
    shape = v5_shape(path, path.stem, "uint8")
    if len(shape) != 5 or shape[4] != 3:
        raise UserError(
            f"{path}: {path.stem} is {times(shape)}, not (images, blocks, H, W, 3) as {times(PUBLISHED_BLOCKS)}"
        )
    return shape


def read_scenes(path: Path, images: int) -> list[str]:
    """Read the names of scene instances, one for each of ``images`` images, from a text file.

    Raises:
        UserError: the file cannot be read, or has another number of names, the same name twice, or anything else.
    """
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give a text file, a scene instance a line") from None
    for name in names:
        if not _INSTANCE.fullmatch(name):
            raise UserError(f"{path}: '{name}' is not {_NAMED}")
        if names.count(name) > 1:
            raise UserError(f"{path}: '{name}' stands there {names.count(name)} times; an image is of one instance")
    if len(names) != images:
        raise UserError(f"{path}: {len(names)} scenes for {images} images; give one for each, in their order")
    return names


def times(shape: tuple[int, ...]) -> str:
    """Print a shape: ``40 x 32 x 256 x 256 x 3``."""
    return " x ".join(map(str, shape))
