"""Patches in an LMDB: read by any number of processes, and written so that an incomplete set is never taken for one."""

import json
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args
from weakref import WeakValueDictionary

import cv2
import numpy as np

from atbsn.data.store.manifest import Codec, Depth, Kept, PatchManifest, Tile, png_fits, target_fault
from atbsn.utils.errors import UserError

if TYPE_CHECKING:
    import lmdb

_MANIFEST = b"manifest"
"""Key of the manifest."""
_JOURNAL = b"done/"
"""What the keys of the notes begin with, one for each picture that is done."""
_FIRST_MAP_SIZE = 2**30
"""Bytes: size of the map of a new database. Chosen by hand; it is doubled when it is full."""
_STRIP = 64
"""Rows of a raw record. py-lmdb reads the whole of a record that it returns, so a raw patch is cut into several. Chosen
by hand; prepared sets depend on it."""
_TYPES = {name: np.dtype(name) for name in get_args(Depth)}
"""The types of samples by name."""
_PREPARE = "make it with atbsn prepare"

_environments: "WeakValueDictionary[tuple[int, str], lmdb.Environment]" = WeakValueDictionary()
"""The open environments, by process and path."""
_opening = threading.Lock()


def record_key(number: int, strip: int = 0) -> bytes:
    """Make the LMDB key of a strip of patch ``number``. The keys have the order of the numbers."""
    return b"%08d/%05d" % (number, strip)


class LmdbReader:
    """Reads the patches of an LMDB that ``atbsn prepare`` made.

    It can be used by several threads, after a fork and after pickling: each process opens the file itself, at its first
    read. Nothing is locked or written, so the folder may be read-only.

    Args:
        path: folder with ``data.mdb``.

    Raises:
        UserError: there is no LMDB, or it is truncated, unfinished, or made by another tool.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        self._opened: tuple[int, lmdb.Environment] | None = None
        with self._transaction() as transaction:
            text = transaction.get(_MANIFEST)
            if text is None:
                raise UserError(f"{path}: without a manifest: an LMDB of another tool, or unfinished; {_PREPARE}")
            self.manifest = PatchManifest.from_json(bytes(text), str(path))

    def __len__(self) -> int:
        return len(self.manifest.patches)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def read(self, number: int) -> np.ndarray:
        """Read patch ``number``: (H, W, C), uint8, uint16 or float32; C is 1 for grey, 3 for RGB, or another number."""
        patch = self.manifest.patches[number]
        return self._samples(number, 0, 0, patch.height, patch.width)

    def crop(self, number: int, top: int, left: int, size: int) -> np.ndarray:
        """Read a (size, size, C) crop of patch ``number``. Of a raw patch, only the strips that it needs are read."""
        return self._samples(number, top, left, size, size)

    def is_sound(self, number: int) -> bool:
        """Whether all of patch ``number`` is as it was written."""
        patch = self.manifest.patches[number]
        crc32 = 0
        with self._transaction() as transaction:
            if self.manifest.codec == "png":
                record = self._record(transaction, number, 0)
                return png_fits(record, patch) and zlib.crc32(record) == patch.crc32
            for strip in range(-(-patch.height // _STRIP)):
                crc32 = zlib.crc32(self._strip(transaction, number, strip).data, crc32)
        return crc32 == patch.crc32

    def _samples(self, number: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        bottom, right = top + height, left + width
        with self._transaction() as transaction:
            if self.manifest.codec == "png":
                return self._decode(transaction, number)[top:bottom, left:right]
            _, _, _, _, depth, channels = self.manifest.patches[number]
            samples = np.empty((height, width, channels), _TYPES[depth])
            for strip in range(top // _STRIP, -(-bottom // _STRIP)):
                first = strip * _STRIP
                start, stop = max(top, first), min(bottom, first + _STRIP)
                part = self._strip(transaction, number, strip)
                samples[start - top : stop - top] = part[start - first : stop - first, left:right]
        return samples

    def _decode(self, transaction: "lmdb.Transaction[Any]", number: int) -> np.ndarray:
        patch = self.manifest.patches[number]
        record = self._record(transaction, number, 0)
        found = cv2.imdecode(np.frombuffer(record, np.uint8), cv2.IMREAD_UNCHANGED) if len(record) else None
        samples = found[..., None] if found is not None and found.ndim == 2 else found
        expected = patch.height, patch.width, patch.channels
        if samples is None or samples.shape != expected or samples.dtype != patch.depth:
            raise self._damaged(number)
        return cv2.cvtColor(samples, cv2.COLOR_BGR2RGB, dst=samples) if patch.channels == 3 else samples

    def _strip(self, transaction: "lmdb.Transaction[Any]", number: int, strip: int) -> np.ndarray:
        """View the samples of a strip, (rows, W, C). The view is valid only in the transaction."""
        _, height, width, _, depth, channels = self.manifest.patches[number]
        kind, rows = _TYPES[depth], min(_STRIP, height - strip * _STRIP)
        record = self._record(transaction, number, strip)
        if len(record) != rows * width * channels * kind.itemsize:
            raise self._damaged(number)
        return np.frombuffer(record, kind).reshape(rows, width, channels)

    def _record(self, transaction: "lmdb.Transaction[Any]", number: int, strip: int) -> memoryview:
        record = transaction.get(record_key(number, strip))
        if record is None:
            raise self._damaged(number)
        return record

    @contextmanager
    def _transaction(self) -> Iterator["lmdb.Transaction[Any]"]:
        process = os.getpid()
        if self._opened is None or self._opened[0] != process:
            self._opened = process, _environment(self.path)
        with self._opened[1].begin(buffers=True) as transaction:
            yield transaction

    def _damaged(self, number: int) -> UserError:
        key = self.manifest.patches[number].key
        return UserError(f"{self.path}: patch {number} ({key}) is damaged or missing; prepare the set again")


class LmdbWriter:
    """Fills an LMDB picture by picture. The patches of a picture and a note that it is done are committed together.

    Args:
        folder: it is made if it does not exist, and continued if it does.
        codec: how records are kept.

    Raises:
        UserError: the disk is full or cannot be written.
    """

    def __init__(self, folder: Path, codec: Codec) -> None:
        lmdb = _package(folder)
        self._error, self._full = lmdb.Error, lmdb.MapFullError
        self.folder, self.codec = folder, codec
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            self._env = lmdb.open(str(folder), map_size=_FIRST_MAP_SIZE, meminit=False)
        _check_whole(folder, self._env)

    def done(self) -> dict[int, Kept]:
        """Read which pictures are done."""
        with self._env.begin() as transaction, transaction.cursor() as cursor:
            found = {}
            cursor.set_range(_JOURNAL)
            for key, value in cursor:
                if not key.startswith(_JOURNAL):
                    break
                found[int(key.removeprefix(_JOURNAL))] = Kept(*json.loads(value))
            return found

    def put(self, picture: int, tiles: Sequence[Tile], records: Sequence[bytes], kept: Kept) -> None:
        """Write the patches of one picture and the note to disk; if this fails, nothing is written."""

        def write(transaction: "lmdb.Transaction[Any]") -> None:
            for tile, record in zip(tiles, records, strict=True):
                length = _STRIP * (len(record) // tile.height) if self.codec == "raw" else len(record)
                for strip, start in enumerate(range(0, len(record), length)):
                    transaction.put(record_key(tile.number, strip), memoryview(record)[start : start + length])
            transaction.put(_JOURNAL + b"%08d" % picture, json.dumps(kept).encode())

        self._commit(write)

    def finish(self, manifest: PatchManifest) -> None:
        """Write the manifest. Readers refuse a file without one."""
        self._commit(lambda transaction: transaction.put(_MANIFEST, manifest.to_json().encode()))

    def close(self) -> None:
        self._env.close()
        (self.folder / "lock.mdb").unlink(missing_ok=True)  # readers do not lock

    def _commit(self, write: Callable[["lmdb.Transaction[Any]"], object]) -> None:
        with self._writing():
            while True:
                try:
                    with self._env.begin(write=True) as transaction:
                        write(transaction)
                        return
                except self._full:
                    self._env.set_mapsize(2 * self._env.info()["map_size"])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (self._error, OSError) as error:
            raise target_fault(self.folder, error) from error


def _environment(path: Path) -> "lmdb.Environment":
    """Return this process's environment of ``path``. LMDB allows only one, and none that was inherited by a fork."""
    key = (os.getpid(), str(path))
    with _opening:
        environment = _environments.get(key)
        if environment is None:
            for (process, opened), inherited in list(_environments.items()):
                if process != key[0] and opened == key[1]:
                    inherited.close()
            environment = _environments[key] = _open(path)
        return environment


def _open(path: Path) -> "lmdb.Environment":
    lmdb = _package(path)
    if not (path / "data.mdb").is_file():
        raise UserError(f"{path}: no LMDB (no data.mdb in it); {_PREPARE}")
    try:
        environment = lmdb.open(str(path), readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise UserError(f"{path}: cannot be read as an LMDB ({error}); {_PREPARE}") from None
    _check_whole(path, environment)
    return environment


def _check_whole(path: Path, environment: "lmdb.Environment") -> None:
    """Raise a ``UserError`` if the file is truncated: reading beyond its end would kill the process."""
    size, needed = (
        (path / "data.mdb").stat().st_size,
        (environment.info()["last_pgno"] + 1) * environment.stat()["psize"],
    )
    if size < needed:
        environment.close()
        raise UserError(f"{path}: truncated: {size:,} of {needed:,} bytes; copy it again, or remove and prepare it")


def _package(path: Path) -> ModuleType:
    try:
        import lmdb
    except ImportError:
        raise UserError(f"{path}: an LMDB needs the package lmdb; pip install lmdb") from None
    return lmdb
