"""The manifest of a prepared set of patches. It is written last, so that a set with a manifest is complete."""

import hashlib
import json
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from atbsn.data.base import deepest
from atbsn.utils.errors import UserError

Codec = Literal["raw", "png"]
"""How a record is kept: ``raw``: the bytes of its (H, W, C) samples, little-endian; ``png``: a PNG file."""

Depth = Literal["uint8", "uint16", "float32"]
"""Type of the samples; floats are in [0, 255]."""

FORMAT = "atbsn-patches"
"""Name of the format in a manifest."""
_PLAIN, _VERSION = 1, 2
"""Versions of the format. Version 2 adds depth and channels. A set of only 8-bit RGB still has version 1, which earlier
programs read."""


class Patch(NamedTuple):
    """One record.

    Attributes:
        key: relative path with '/' and without extension.
        height, width: pixels.
        crc32: checksum of the record as it is kept.
        depth: type of its samples.
        channels: 1 for grey, 3 for RGB, or another number.
    """

    key: str
    height: int
    width: int
    crc32: int
    depth: Depth = "uint8"
    channels: int = 3

    def row(self) -> tuple[str | int, ...]:
        """The row in a manifest, with depth and channels only if it is not 8-bit RGB."""
        return self[: 4 if self[4:] == ("uint8", 3) else 6]


class Kept(NamedTuple):
    """How the patches of one picture are kept.

    Attributes:
        crc32s: checksums of the records.
        depth, channels: type and number of channels of all of them.
    """

    crc32s: list[int]
    depth: Depth = "uint8"
    channels: int = 3


class Tile(NamedTuple):
    """Where a patch is cut from its picture, pixels, with its number and key in the set."""

    number: int
    key: str
    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class PatchManifest:
    """All patches of a prepared set, in order.

    Attributes:
        codec: how records are kept.
        size: side of the patches, pixels; None: whole pictures.
        stride: pixels between the corners of neighbouring patches; None: whole pictures.
        plan: digest of the source pictures and of the options above. The same plan gives the same set.
        patches: all patches, in the order of their numbers.
    """

    codec: Codec
    size: int | None
    stride: int | None
    plan: str
    patches: list[Patch]

    @property
    def depth(self) -> np.dtype:
        """The type that holds all patches."""
        return deepest(np.dtype(kind) for kind in {patch.depth for patch in self.patches})

    @property
    def channels(self) -> frozenset[int]:
        """The numbers of channels of the patches."""
        return frozenset(patch.channels for patch in self.patches)

    def to_json(self) -> str:
        """Write the manifest as JSON, with a line for each patch, and their number and checksum before them."""
        version = _PLAIN if all(len(patch.row()) == 4 for patch in self.patches) else _VERSION
        facts = {
            "format": FORMAT, "version": version, "codec": self.codec, "size": self.size, "stride": self.stride,
            "plan": self.plan, "count": len(self.patches), "checksum": _checksum(self.patches),
        }  # fmt: skip
        rows = ",\n".join(json.dumps(patch.row()) for patch in self.patches)
        return f'{json.dumps(facts)[:-1]}, "patches": [\n{rows}\n]}}\n'

    @classmethod
    def from_json(cls, text: str | bytes, source: str) -> "PatchManifest":
        """Read the manifest in ``text``.

        Raises:
            UserError: it is not a manifest, of another version, altered, or names a path outside of the set.
        """
        facts = _parse(text, source)
        if facts["version"] not in (_PLAIN, _VERSION):
            known = f"{_PLAIN} and {_VERSION}"
            raise UserError(f"{source}: version {facts['version']}, but this program reads {known}; prepare it again")
        try:
            patches = [Patch(*row) for row in facts["patches"]]
            altered = len(patches) != facts["count"] or _checksum(patches) != facts["checksum"]
            altered = altered or not {patch.depth for patch in patches} <= set(get_args(Depth))
            manifest = cls(facts["codec"], facts["size"], facts["stride"], facts["plan"], patches)
        except (KeyError, TypeError):
            altered = True
        if altered:
            raise UserError(f"{source}: its list of patches does not match its checksum; prepare the set again")
        outside = [patch.key for patch in patches if not _is_inside(patch.key)]
        if outside:
            raise UserError(f"{source}: '{outside[0]}' leads out of the set; do not use it, prepare your own")
        return manifest


def png_fits(data: memoryview | bytes, patch: Patch) -> bool:
    """Whether ``data`` begins as a PNG file with the size of ``patch``."""
    return bytes(data[1:4]) == b"PNG" and bytes(data[16:24]) == struct.pack(">II", patch.width, patch.height)


def target_fault(folder: Path, error: Exception) -> UserError:
    """Make the message if a set cannot be written, with the free space: an LMDB does not say that the disk is full."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    reason, free = getattr(error, "strerror", None) or error, shutil.disk_usage(there).free / 1e6
    return UserError(
        f"{folder}: cannot be written ({reason}; {free:,.0f} MB are free there); free some space or choose another "
        "disk, and run the same command again: it continues"
    )


def _parse(text: str | bytes, source: str) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise UserError(f"{source}: not a manifest of atbsn prepare; prepare the set with it")
    return facts


def _checksum(patches: list[Patch]) -> str:
    return hashlib.sha256(json.dumps([patch.row() for patch in patches]).encode()).hexdigest()


def _is_inside(key: str) -> bool:
    posix, windows = PurePosixPath(key), PureWindowsPath(key)
    return bool(key) and not (windows.anchor or posix.is_absolute() or ".." in windows.parts)
