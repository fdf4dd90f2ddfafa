"""What ``atbsn prepare`` does with the sets that it knows by name: cut them into patches, check them, time reading."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from atbsn.data.base import ImageSet
from atbsn.data.dnd import DND
from atbsn.data.folder import NoisyFolder
from atbsn.data.paired import PairedFolder
from atbsn.data.polyu import PolyU
from atbsn.data.sidd import SIDDBenchmark, SIDDMedium, SIDDValidation
from atbsn.data.store.manifest import Codec
from atbsn.data.store.prepare import PatchPlan, prepare, verify
from atbsn.utils.errors import UserError
from atbsn.utils.log import progress_bar

SOURCES: dict[str, Callable[[Path], ImageSet]] = {
    "sidd": SIDDMedium,
    "dnd": lambda root: DND(root, split="images"),
    "folder": NoisyFolder,
}
"""The sets that can be cut into patches."""
SETS: dict[str, tuple[Callable[[Path], ImageSet], int | None]] = {
    "sidd-medium": (SIDDMedium, 320),
    "sidd-validation": (SIDDValidation, 1280),
    "sidd-benchmark": (SIDDBenchmark, 1280),
    "dnd": (DND, 1000),
    "polyu": (PolyU, 100),
    "cc15": (PairedFolder, 15),
    "paired": (PairedFolder, None),
    "folder": (NoisyFolder, None),
}
"""The sets that can be checked, with the number of pictures of the published set."""
PREPARED = "prepared"
"""The name under which anything that was prepared can be checked."""
_WARM_UP, _MEASURED = 2.0, 5.0
"""Seconds of reading that are not measured, so that the page cache has some of the set, and seconds that are measured.
Chosen by hand."""


class Speed(NamedTuple):
    """The number of patches that are read in a second of the clock, and in a second of the process's CPU time."""

    a_second: float
    a_cpu_second: float


def prepare_set(
    source: str, root: Path, target: Path, size: int | None, stride: int | None, codec: Codec | None, num_workers: int
) -> tuple[int, int]:
    """Cut the set in ``root`` into patches of ``size`` x ``size`` pixels.

    Args:
        source: a name of ``SOURCES``.
        root: the folder of the set.
        target: an LMDB if the name ends with .lmdb, else a folder of PNG files.
        size, stride: side of the patches, and distance between their corners, pixels; None keeps whole pictures.
        codec: how records are kept; None: raw in an LMDB and png in a folder.
        num_workers: number of threads.

    Returns:
        The numbers of patches and of pictures.

    Raises:
        UserError: the set cannot be read, or the target cannot be written.
    """
    images = SOURCES[source](root)
    codec = codec or ("raw" if target.suffix == ".lmdb" else "png")
    manifest = prepare(images, target, PatchPlan.make(images, size, stride, codec), num_workers)
    return len(manifest.patches), len(images)


def check_known_set(kind: str, dataroot: Path, num_workers: int) -> str:
    """Check the set ``kind`` of ``SETS``, or ``PREPARED`` patches, and say what it holds.

    Raises:
        UserError: something is missing or cannot be used.
    """
    if kind == PREPARED:
        manifest = verify(dataroot, num_workers)
        return f"{dataroot}: {len(manifest.patches)} patches, {manifest.codec}, {manifest.depth}, all as written"
    build, published = SETS[kind]
    images = build(dataroot)
    sizes, faults = set(), []
    for index in progress_bar(range(len(images)), "check", unit="image"):
        try:
            sizes.add(images.size(index))
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError("\n  ".join([f"{dataroot}: {len(faults)} of {len(images)} pictures cannot be used:", *faults]))
    images.read(0)
    if published is not None and len(images) != published:
        raise UserError(f"{dataroot}: {len(images)} pictures, but {kind} has {published}; unpack the rest of it")
    references = "with references" if images.has_clean else "without references"
    extent = " to ".join(f"{height}x{width}" for height, width in sorted({min(sizes), max(sizes)}))
    return f"{dataroot}: {len(images)} pictures of {extent}, {references}"


def reading_speed(dataroot: Path, patch_size: int) -> Speed:
    """Measure how many random patches one process reads, without keeping decoded pictures.

    Raises:
        UserError: the set cannot be read, or a picture is smaller than a patch.
    """
    images = NoisyFolder(dataroot, "lmdb" if (dataroot / "data.mdb").is_file() else "disk")
    rng = np.random.default_rng(0)

    def read_patches(seconds: float) -> Speed:
        count, wall, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < seconds:
            index = int(rng.integers(len(images)))
            height, width = images.size(index)
            top, left = map(int, rng.integers(0, (height - patch_size + 1, width - patch_size + 1)))
            images.crop(index, top, left, patch_size)
            count += 1
        return Speed(count / (time.perf_counter() - wall), count / (time.process_time() - cpu))

    if min(min(images.size(index)) for index in range(len(images))) < patch_size:
        raise UserError(f"--patch_size: {patch_size}: a picture is smaller; choose a smaller patch")
    read_patches(_WARM_UP)
    return read_patches(_MEASURED)
