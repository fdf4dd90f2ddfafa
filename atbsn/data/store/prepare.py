"""Cut large noisy pictures into patches in a folder or an LMDB: in parallel, resumable, verified.

The set is built in ``.<name>.partial`` beside the target, picture by picture. A picture is noted as done when its
patches are written. Only a complete and verified set gets the name of the target.
"""

import hashlib
import json
import shutil
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from filelock import FileLock, Timeout

from atbsn.data.base import ImageSet, deepest
from atbsn.data.store.folder import JOURNAL, MANIFEST, FolderReader, FolderWriter
from atbsn.data.store.lmdb import LmdbReader, LmdbWriter
from atbsn.data.store.manifest import Codec, Depth, Kept, Patch, PatchManifest, Tile, target_fault
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_text
from atbsn.utils.log import logger, progress_bar
from atbsn.utils.prefetch import prefetch

_PLAN = "plan"
"""Name of the file with the digest of the plan, in a set that is not complete."""
_JOURNAL_VERSION = 2
"""Version of the notes about pictures that are done."""


@dataclass(frozen=True)
class PatchPlan:
    """Which patches are cut, and how they are kept.

    Attributes:
        codec: how records are kept.
        size: side of the patches, pixels; None: whole pictures. A smaller picture is one patch.
        stride: pixels between the corners of neighbouring patches. The last patches are shifted inwards, so that every
            pixel is in a patch.
        tiles: the tiles of every picture.
    """

    codec: Codec
    size: int | None
    stride: int | None
    tiles: list[list[Tile]]

    @classmethod
    def make(cls, images: ImageSet, size: int | None, stride: int | None, codec: Codec) -> "PatchPlan":
        """Make the plan for ``images``.

        Raises:
            UserError: size or stride is out of range.
        """
        if size is not None and not (stride and 1 <= stride <= size):
            raise UserError(f"stride: {stride} with patches of {size}: pixels between them are lost; use 1 to {size}")
        numbers = count()
        tiles = []
        for index in range(len(images)):
            height, width = images.size(index)
            extent = min(height, size or height), min(width, size or width)
            corners = product(_starts(height, size, stride), _starts(width, size, stride))
            tiles.append([Tile(next(numbers), _key(images.key(index), size, *at), *at, *extent) for at in corners])
        return cls(codec, size, stride, tiles)

    def digest(self) -> str:
        """Compute a digest of the names and sizes of the pictures and of the options."""
        return hashlib.sha256(json.dumps([self.codec, self.size, self.stride, self.tiles]).encode()).hexdigest()

    def manifest(self, done: dict[int, Kept]) -> PatchManifest:
        """Make the manifest of the set when all pictures are ``done``."""
        patches = [
            Patch(tile.key, tile.height, tile.width, crc32, done[picture].depth, done[picture].channels)
            for picture, tiles in enumerate(self.tiles)
            for tile, crc32 in zip(tiles, done[picture].crc32s, strict=True)
        ]
        return PatchManifest(self.codec, self.size, self.stride, self.digest(), patches)


def prepare(images: ImageSet, target: Path, plan: PatchPlan, num_workers: int) -> PatchManifest:
    """Prepare ``images`` as ``target``: an LMDB if its name ends with ``.lmdb``, else a folder of PNG files.

    It continues what an interrupted call with the same plan has left. ``num_workers`` threads decode and encode. The
    codecs release the interpreter's lock, so the threads run in parallel.

    Raises:
        UserError: a picture cannot be read, the disk is full, ``target`` exists and is another set, or the files do not
            hold what was written.
    """
    is_lmdb = target.suffix == ".lmdb"
    if plan.codec == "raw" and not is_lmdb:
        raise UserError(f"{target}: a folder holds PNG files, not raw records; end its name with .lmdb, or use png")
    if not target.name.strip("."):
        raise UserError(f"target: '{target}' is a folder that is there already; name the one to make")
    partial = target.with_name(f".{target.name}.partial")
    with _alone(target):
        if target.exists():
            return _check_same(target, images, plan, num_workers)
        _open_partial(partial, plan)
        with closing(LmdbWriter(partial, plan.codec) if is_lmdb else FolderWriter(partial)) as writer:
            _fill(writer, images, plan, num_workers)
            manifest = plan.manifest(writer.done())
            writer.finish(manifest)
        write_text(partial / MANIFEST, manifest.to_json())
        try:
            verify(partial, num_workers)
        except UserError:
            shutil.rmtree(partial)  # the notes do not agree with the files, so it cannot be continued
            raise
        for name in (_PLAN, JOURNAL):
            (partial / name).unlink(missing_ok=True)
        partial.rename(target)
    return manifest


def verify(target: Path, num_workers: int) -> PatchManifest:
    """Read a prepared set completely and check that every patch is there, with its size and checksum.

    Raises:
        UserError: something is missing or altered, or ``target`` is not a prepared set.
    """
    reader = _open(target)
    manifest = reader.manifest
    total = len(manifest.patches)
    checks = progress_bar(prefetch(reader.is_sound, range(total), num_workers), "verify", total, unit="patch")
    damaged = [patch.key for patch, sound in zip(manifest.patches, checks, strict=True) if not sound]
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        raise UserError(f"{target}: {damaged[0]}{more}: not as written; check the disk and prepare the set again")
    return manifest


def _fill(writer: LmdbWriter | FolderWriter, images: ImageSet, plan: PatchPlan, num_workers: int) -> None:
    """Write the patches of every picture that is not done yet."""

    def encode(picture: int) -> tuple[int, list[bytes], Kept]:
        samples = images.samples(picture)
        if plan.codec == "png" and samples.dtype == np.float32:
            raise UserError(f"{images.key(picture)}: floats, which PNG does not hold; use --codec raw with an .lmdb")
        if plan.codec == "png" and samples.shape[2] not in (1, 3):
            many = f"{samples.shape[2]} channels"
            raise UserError(f"{images.key(picture)}: {many}, which PNG does not hold; use --codec raw with an .lmdb")
        parts = (samples[t.top : t.top + t.height, t.left : t.left + t.width] for t in plan.tiles[picture])
        records = [_encode(part, plan.codec) for part in parts]
        crc32s = [zlib.crc32(record) for record in records]
        return picture, records, Kept(crc32s, _depth(samples), samples.shape[2])

    done = writer.done()
    todo = [picture for picture in range(len(images)) if picture not in done]
    if done:
        logger.info("continuing: %d of %d pictures are done", len(done), len(images))
    with progress_bar(prefetch(encode, todo, num_workers), "prepare", len(todo), unit="image") as bar:
        for picture, records, kept in bar:
            writer.put(picture, plan.tiles[picture], records, kept)


def _encode(samples: np.ndarray, codec: Codec) -> bytes:
    if codec == "raw":
        return samples.tobytes()
    _, data = cv2.imencode(".png", samples if samples.shape[2] == 1 else cv2.cvtColor(samples, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def _depth(samples: np.ndarray) -> Depth:
    return cast(Depth, samples.dtype.name)


def _key(picture: str, size: int | None, top: int, left: int) -> str:
    return picture if size is None else f"{picture}_{top:04d}_{left:04d}"


def _starts(length: int, size: int | None, stride: int | None) -> list[int]:
    if size is None or stride is None or length <= size:
        return [0]
    return [*range(0, length - size, stride), length - size]


def _open(target: Path) -> LmdbReader | FolderReader:
    return LmdbReader(target) if (target / "data.mdb").is_file() else FolderReader(target)


def _check_same(target: Path, images: ImageSet, plan: PatchPlan, num_workers: int) -> PatchManifest:
    manifest = _open(target).manifest
    if manifest.plan != plan.digest():
        raise UserError(f"{target}: made from other pictures or with other options; remove it, or choose another name")
    kept, found = np.dtype(manifest.patches[0].depth), images.samples(0).dtype
    if deepest([kept, found]) != kept:  # an early version of this program kept only 8 bits of all pictures
        raise UserError(f"{target}: its samples are {kept}, those of {images.key(0)} are {found}; remove it")
    logger.info("%s: is there already; verifying it", target)
    return verify(target, num_workers)


def _open_partial(partial: Path, plan: PatchPlan) -> None:
    """Make the folder of an incomplete set, or keep what is in it if that has the same plan."""
    begun = f"{plan.digest()} {_JOURNAL_VERSION}"
    try:
        note = partial / _PLAN
        if partial.exists() and not (note.is_file() and note.read_text() == begun):
            logger.info("%s: left by a run with other pictures or options; starting anew", partial)
            shutil.rmtree(partial)
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise target_fault(partial, error) from error
    write_text(note, begun)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Lock ``target`` against other runs. The system frees the lock when its holder ends, in whatever way."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock"), timeout=0):
            yield
    except Timeout:
        raise UserError(f"{target}: another run is preparing it; wait for it, or choose another name") from None
