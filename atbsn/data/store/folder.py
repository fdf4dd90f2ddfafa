"""Patches as PNG files in a folder with a manifest: the same as ``store.lmdb``, for people who want to see files."""

import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from atbsn.data.store.manifest import Kept, PatchManifest, Tile, png_fits, target_fault
from atbsn.utils.errors import UserError

MANIFEST, JOURNAL = "manifest.json", "journal"
"""Names of the files with what the set holds, and with the pictures that are done."""


class FolderReader:
    """Reads a prepared folder.

    Args:
        folder: a folder with ``manifest.json``.

    Raises:
        UserError: there is no manifest, or it is not sound.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, path = folder, folder / MANIFEST
        if not path.is_file():
            raise UserError(f"{folder}: no {MANIFEST} in it; make the set with atbsn prepare")
        self.manifest = PatchManifest.from_json(path.read_bytes(), str(path))

    def is_sound(self, number: int) -> bool:
        """Whether the file of patch ``number`` is as it was written."""
        patch = self.manifest.patches[number]
        try:
            data = (self.folder / f"{patch.key}.png").read_bytes()
        except OSError:
            return False
        return png_fits(data, patch) and zlib.crc32(data) == patch.crc32


class FolderWriter:
    """Fills a folder picture by picture, and notes each picture that is done.

    Args:
        folder: it is made if it does not exist, and continued if it does.

    Raises:
        UserError: the disk is full or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def done(self) -> dict[int, Kept]:
        """Read which pictures are done."""
        path, found = self.folder / JOURNAL, {}
        for line in path.read_text().splitlines() if path.is_file() else []:
            try:
                picture, kept = json.loads(line)
            except ValueError:  # torn by an interruption
                continue
            found[picture] = Kept(*kept)
        return found

    def put(self, picture: int, tiles: Sequence[Tile], records: Sequence[bytes], kept: Kept) -> None:
        """Write the patches of one picture, and then note that it is done."""
        try:
            for tile, record in zip(tiles, records, strict=True):
                path = self.folder / f"{tile.key}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(record)
            with (self.folder / JOURNAL).open("a") as file:
                file.write("\n" + json.dumps([picture, kept]))
        except OSError as error:
            raise target_fault(self.folder, error) from error

    def finish(self, manifest: PatchManifest) -> None:
        """Flush all files to disk. Flushing each file when it is written would take many times longer."""
        del manifest
        if hasattr(os, "sync"):
            os.sync()

    def close(self) -> None:
        """Do nothing: no file is open."""
