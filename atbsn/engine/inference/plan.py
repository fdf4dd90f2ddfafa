"""How a picture is laid out on a device: one decision, from what the device and the network say and the user asks."""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from atbsn.utils.types import Precision

WORKING = 4 * 2**30
"""Bytes that a pass may take at most, however large the card. Chosen: that is a million pixels and more, beside whose
arithmetic the starting of kernels is small; more would only be taken from others."""
SHARE = 0.5
"""Of the memory that is free, what a pass may take: the other half is for the picture itself, cuDNN's workspaces, what
the allocator cannot use, and a network that takes more than was reckoned."""
SMALL = 2**18
"""Pixels that are done in one pass without asking: less than 2 GB for any network in float32."""
PICTURE = 100
"""Bytes a pixel of a picture that lies on the device: noisy, clean, finished, rounded, and what finishing takes."""
UNKNOWN = 8192.0
"""Bytes a pixel that a network is taken to need where it was not measured: more than any of ours."""
_MULTIPLE = 32
"""Sides of tiles are multiples of this, so that five poolings pad nothing."""
_LEAST = 4
"""A tile is at least so many overlaps high and wide, so that at most half of it each way is its neighbours' too."""


@dataclass(frozen=True)
class DeviceFacts:
    """What a device says of itself.

    Attributes:
        kind: ``cpu``, ``cuda`` or another of torch's names.
        free_memory: bytes that a computation may still take; 0 where it does not matter.
        capability: CUDA's compute capability.
        bf16: whether a CPU has instructions for bfloat16.
    """

    kind: str
    free_memory: int = 0
    capability: tuple[int, int] = (0, 0)
    bf16: bool = False

    @classmethod
    def of(cls, device: torch.device) -> "DeviceFacts":
        """Of a device of this machine; ``free_memory`` counts what the process holds but does not use."""
        if device.type == "cuda":
            held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            free = torch.cuda.mem_get_info(device)[0] + held
            return cls("cuda", free, torch.cuda.get_device_capability(device))
        return cls(device.type, bf16=device.type == "cpu" and _cpu_computes_in_bf16())

    @property
    def precision(self) -> Precision:
        """What it computes fastest in without loss that shows: bf16 where it has it (a GPU from capability 8.0 on)."""
        return "bf16" if self.bf16 or (self.kind == "cuda" and self.capability >= (8, 0)) else "fp32"


@dataclass(frozen=True)
class Asked:
    """What a user asks for; ``auto`` is for the device to decide.

    Attributes:
        tile: side of square tiles; ``none``: one pass, whatever it takes.
        overlap: pixels that neighbouring tiles share.
        batch_size: tiles at a time.
        precision: type of the numbers that the network computes with.
        capture: whether a GPU may keep a pass as a CUDA graph.
        usual_tile: side of the tiles where nothing is gained by larger ones: on a CPU, and for a network in which every
            pixel depends on the whole tile.
    """

    tile: int | Literal["auto", "none"] = "auto"
    overlap: int = 32
    batch_size: int | Literal["auto"] = "auto"
    precision: Precision | Literal["auto"] = "auto"
    capture: bool = True
    usual_tile: int = 256


@dataclass(frozen=True)
class DevicePlan:
    """How a picture is computed.

    Attributes:
        tile: height and width of its tiles; None: one pass.
        batch_size: tiles at a time.
        precision: type of the numbers that the network computes with.
        capture: from the second pass of a size on, replay it as a CUDA graph.
        resident: the picture lies on the device; otherwise in the CPU's memory, from where its tiles visit the device.
    """

    tile: tuple[int, int] | None
    batch_size: int
    precision: Precision
    capture: bool
    resident: bool

    @classmethod
    def make(
        cls,
        facts: DeviceFacts,
        asked: Asked,
        size: tuple[int, int],
        bytes_per_pixel: float = UNKNOWN,
        sees_whole_tile: bool = False,
    ) -> "DevicePlan":
        """Decide; nothing else is looked at.

        On a GPU a picture is done whole if a pass of it fits, otherwise in equal parts that fit, those that overlap
        least. On anything else tiles are ``asked.usual_tile``, one at a time.

        Args:
            size: height and width of the picture.
            bytes_per_pixel: that a pass of the network takes at its peak, in the precision it computes with.
            sees_whole_tile: every pixel depends on all of its tile (attention, statistics), so that the tile's size
                stays what the network is used to.
        """
        gpu = facts.kind == "cuda"
        at_once = max(1, int(min(WORKING, SHARE * facts.free_memory) / bytes_per_pixel))
        tile = _tile(asked, size, gpu and not sees_whole_tile, at_once)
        batch_size = 1 if asked.batch_size == "auto" else asked.batch_size
        if gpu and asked.batch_size == "auto" and tile is not None:
            batch_size = min(max(1, at_once // math.prod(tile)), _count(size, tile, asked.overlap))
        resident = gpu and math.prod(size) * PICTURE <= SHARE * facts.free_memory
        precision = facts.precision if asked.precision == "auto" else asked.precision
        return cls(tile, batch_size, precision, gpu and asked.capture, resident)


def _tile(asked: Asked, size: tuple[int, int], free: bool, at_once: int) -> tuple[int, int] | None:
    """The tile that is asked for, or one of at most ``at_once`` pixels where the device is ``free`` to choose."""
    if asked.tile == "none":
        return None
    if asked.tile != "auto":
        return asked.tile, asked.tile
    if free:
        return _fewest_pixels(size, asked.overlap, at_once)
    return asked.usual_tile, asked.usual_tile


def _fewest_pixels(size: tuple[int, int], overlap: int, at_once: int) -> tuple[int, int] | None:
    """Height and width of equal parts of at most ``at_once`` pixels, so that the fewest pixels are computed twice."""
    height, width = size
    if height * width <= at_once:
        return None
    least = max(_LEAST * overlap, 2 * _MULTIPLE)
    found = []
    for columns in range(1, 2 + max(0, width - overlap) // (least - overlap)):
        across = _part(width, columns, overlap)
        highest = max(least, at_once // across // _MULTIPLE * _MULTIPLE)
        rows = max(1, math.ceil((height - overlap) / (highest - overlap)))
        down = _part(height, rows, overlap)
        found.append((down * across > at_once, rows * columns * down * across, columns, down, across))
    down, across = min(found)[-2:]
    return max(down, 2 * overlap), max(across, 2 * overlap)  # one that is longer than the picture is as long as it


def _part(length: int, number: int, overlap: int) -> int:
    """The least multiple of ``_MULTIPLE``, of at least two overlaps, of which ``number`` cover ``length``."""
    part = math.ceil((length + (number - 1) * overlap) / number)
    return length if number == 1 else max(math.ceil(part / _MULTIPLE) * _MULTIPLE, 2 * overlap)


def _count(size: tuple[int, int], tile: tuple[int, int], overlap: int) -> int:
    """Tiles of a picture."""
    sides = zip(size, tile, strict=True)
    return math.prod(1 + max(0, math.ceil((length - side) / (side - overlap))) for length, side in sides)


def _cpu_computes_in_bf16() -> bool:
    """Whether the CPU has instructions for bfloat16, and oneDNN is there to use them; emulation would be slow."""
    if not torch.backends.mkldnn.is_available():
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())  # torch before 2.10
