"""What a prepared set of patches holds: written last, so that a set with a manifest is complete."""

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
"""How a record is kept: the bytes of its (H, W, C) samples themselves, little-endian, or as a PNG file."""

Depth = Literal["uint8", "uint16", "float32"]
"""Type of the samples; floats are in [0, 255]."""

FORMAT = "atbsn-patches"
_PLAIN, _VERSION = 1, 2
"""Version 2 adds depth and channels; a set of 8-bit RGB alone is still of version 1, which earlier programs read."""


class Patch(NamedTuple):
    """One record.

    Attributes:
        key: relative path with '/' and without extension.
        height: pixels.
        width: pixels.
        crc32: of the record as it is kept.
        depth: type of its samples.
        channels: 1 grey, 3 RGB, or another number.
    """

    key: str
    height: int
    width: int
    crc32: int
    depth: Depth = "uint8"
    channels: int = 3

    def row(self) -> tuple[str | int, ...]:
        """The row of a manifest, with depth and channels only where they are not 8-bit RGB."""
        return self[: 4 if self[4:] == ("uint8", 3) else 6]


class Kept(NamedTuple):
    """The patches of one picture as they are kept.

    Attributes:
        crc32s: of its records.
        depth, channels: of all of them.
    """

    crc32s: list[int]
    depth: Depth = "uint8"
    channels: int = 3


class Tile(NamedTuple):
    """Where a patch is cut from its picture, with its number and key in the set."""

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
        plan: digest of the source pictures and of the above: the same plan gives the same set.
        patches: in the order of their numbers.
    """

    codec: Codec
    size: int | None
    stride: int | None
    plan: str
    patches: list[Patch]

    @property
    def depth(self) -> np.dtype:
        """The deepest type of all patches."""
        return deepest(np.dtype(kind) for kind in {patch.depth for patch in self.patches})

    @property
    def channels(self) -> frozenset[int]:
        """How many channels the patches have."""
        return frozenset(patch.channels for patch in self.patches)

    def to_json(self) -> str:
        """One line a patch, with count and checksum before them."""
        version = _PLAIN if all(len(patch.row()) == 4 for patch in self.patches) else _VERSION
        facts = {
            "format": FORMAT, "version": version, "codec": self.codec, "size": self.size, "stride": self.stride,
            "plan": self.plan, "count": len(self.patches), "checksum": _checksum(self.patches),
        }  # fmt: skip
        rows = ",\n".join(json.dumps(patch.row()) for patch in self.patches)
        return f'{json.dumps(facts)[:-1]}, "patches": [\n{rows}\n]}}\n'

    @classmethod
    def from_json(cls, text: str | bytes, source: str) -> "PatchManifest":
        """The manifest in ``text``.

        Raises:
            UserError: not one of ours or of this version, altered, or it names a path outside of the set.
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
    """Whether ``data`` begins as a PNG of the size of ``patch``."""
    return bytes(data[1:4]) == b"PNG" and bytes(data[16:24]) == struct.pack(">II", patch.width, patch.height)


def target_fault(folder: Path, error: Exception) -> UserError:
    """What to say where a set cannot be written; an LMDB does not tell a full disk from a broken one."""
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
