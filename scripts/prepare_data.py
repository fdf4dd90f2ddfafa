"""Prepare data sets: cut big pictures into patches that are fast to read, and check what is there.

    python scripts/prepare_data.py sidd   datasets/SIDD/SIDD_Medium_Srgb datasets/SIDD/medium_512.lmdb
    python scripts/prepare_data.py dnd    datasets/DND datasets/DND/images_512.lmdb
    python scripts/prepare_data.py folder my_pictures datasets/mine          a folder of PNG files
    python scripts/prepare_data.py check  sidd-validation datasets/SIDD/validation
    python scripts/prepare_data.py speed  datasets/SIDD/medium_512.lmdb

An interrupted preparation continues when the same command is given again. A target that exists is complete, and has
been read back and compared with what was written.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from atbsn.data.base import ImageSet
from atbsn.data.dnd import DND
from atbsn.data.folder import NoisyFolder
from atbsn.data.paired import PairedFolder
from atbsn.data.polyu import PolyU
from atbsn.data.sidd import SIDDBenchmark, SIDDMedium, SIDDValidation
from atbsn.data.store.manifest import Codec
from atbsn.data.store.prepare import Plan, prepare, verify
from atbsn.engine.commands import positive, run_command
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger, progress_bar

SOURCES: dict[str, tuple[str, Callable[[Path], ImageSet]]] = {
    "sidd": ("the unpacked SIDD_Medium_Srgb", SIDDMedium),
    "dnd": ("the folder with DND's info.mat and images_srgb", lambda root: DND(root, split="images")),
    "folder": ("any folder of pictures, searched recursively", NoisyFolder),
}
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
"""What ``check`` knows, and how many pictures the published set has."""
PREPARED = "prepared"


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    options = parse(arguments)
    if options.command == "check":
        check(options.kind, options.dataroot, options.workers)
        return
    if options.command == "speed":
        speed(options.dataroot, options.patch_size)
        return
    size, stride = (None, None) if options.whole else (options.size, options.stride or max(1, options.size // 2))
    codec: Codec = options.codec or ("raw" if options.target.suffix == ".lmdb" else "png")
    images = SOURCES[options.command][1](options.source)
    manifest = prepare(images, options.target, Plan.make(images, size, stride, codec), options.workers)
    logger.info("%s: %d patches of %d pictures, verified", options.target, len(manifest.patches), len(images))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (source, _) in SOURCES.items():
        command = commands.add_parser(name, help=f"cut {source}", allow_abbrev=False)
        command.add_argument("source", type=Path, help=source)
        command.add_argument(
            "target", type=Path, help="an LMDB if the name ends with .lmdb, else a folder of PNG files"
        )
        command.add_argument(
            "--size", type=positive(int), default=512, help="side of the patches, pixels (default: 512)"
        )
        command.add_argument(
            "--stride", type=positive(int), help="pixels between their corners (default: half of the size)"
        )
        command.add_argument("--whole", action="store_true", help="do not cut; raw crops read only their rows anyway")
        command.add_argument("--codec", choices=("raw", "png"), help="of the records (default: raw in an LMDB)")
        add_workers(command)
    command = commands.add_parser("check", help="print OK, or what is missing", allow_abbrev=False)
    command.add_argument("kind", choices=(*SETS, PREPARED), help="what should be there")
    command.add_argument("dataroot", type=Path, help="as in an option file")
    add_workers(command)
    command = commands.add_parser("speed", help="measure how fast patches can be read", allow_abbrev=False)
    command.add_argument("dataroot", type=Path, help="an LMDB, or a folder of pictures")
    command.add_argument("--patch_size", type=positive(int), default=256, help="side of a patch, pixels (default: 256)")
    return parser.parse_args(arguments)


def check(kind: str, dataroot: Path, num_workers: int) -> None:
    """Print OK and what was found.

    Raises:
        UserError: what is missing.
    """
    if kind == PREPARED:
        manifest = verify(dataroot, num_workers)
        facts = len(manifest.patches), manifest.codec, manifest.depth
        logger.info("OK: %s: %d patches, %s, %s, all as written", dataroot, *facts)
        return
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
    logger.info("OK: %s: %d pictures of %s, %s", dataroot, len(images), extent, references)


def speed(dataroot: Path, patch_size: int) -> None:
    """Print how many random patches a single process reads in a second, without keeping decoded pictures."""
    images = NoisyFolder(dataroot, "lmdb" if (dataroot / "data.mdb").is_file() else "disk")
    rng = np.random.default_rng(0)

    def read_patches(seconds: float) -> tuple[float, float]:
        count, wall, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < seconds:
            index = int(rng.integers(len(images)))
            height, width = images.size(index)
            top, left = map(int, rng.integers(0, (height - patch_size + 1, width - patch_size + 1)))
            images.crop(index, top, left, patch_size)
            count += 1
        return count / (time.perf_counter() - wall), count / (time.process_time() - cpu)

    if min(min(images.size(index)) for index in range(len(images))) < patch_size:
        raise UserError(f"--patch_size: {patch_size}: a picture is smaller; choose a smaller patch")
    read_patches(2)  # from here on the page cache has some of it
    per_second, per_cpu_second = read_patches(5)
    text = "%s: %.0f patches of %dx%d a second in one process, %.0f in a second of its CPU time"
    logger.info(text, dataroot, per_second, patch_size, patch_size, per_cpu_second)


def add_workers(command: argparse.ArgumentParser) -> None:
    workers = min(8, os.cpu_count() or 1)
    command.add_argument("--workers", type=positive(int), default=workers, help=f"threads (default: {workers})")


if __name__ == "__main__":
    run_command(main)
