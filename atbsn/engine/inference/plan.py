"""How a picture is laid out on a device: one decision, from what the device and the network say and the user asks."""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from atbsn.engine.inference.layout import Sizes, fewest_pixels, spans
from atbsn.engine.inference.tiling import OnShortage, OnTiles, Tiler
from atbsn.utils.types import Precision

WORKING = 4 * 2**30
"""Bytes that a pass may take at most, however large the card. Chosen: that is a million pixels and more, beside whose
arithmetic the starting of kernels is small; more would only be taken from others."""
SHARE = 0.5
"""Share of the free memory that a pass may take: the other half is for the picture itself, cuDNN's workspaces, what
the allocator cannot use, and a network that takes more than was reckoned."""
SMALL = 2**18
"""Pixels that are done in one pass without asking: less than 2 GB for any network in float32."""
PICTURE = 100
"""Bytes a pixel of a picture that lies on the device: noisy, clean, finished, rounded, and what finishing takes."""
UNKNOWN = 8192.0
"""Bytes a pixel that a network is taken to need where it was not measured: more than any of ours."""
WIDE = 192
"""Pixels that large tiles of a GPU share: of four of 3000 x 1144, 14 % are computed twice. Tiles of few pixels share an
eighth of their side.
Networks with five poolings look 150 to 300 pixels around. Untrained, a student C's output in tiles differs from the
untiled one 50 times less than with the 32 pixels of a CPU (``tests/engine/inference/test_tiled_networks.py``)."""
BAND = 2**20
"""Pixels of a row of tiles that is higher than usual on a CPU, at most: 12 MB for each picture of float32."""


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
        """Read the facts of a device of this machine; ``free_memory`` counts what the process holds but does not
        use."""
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
class ComputeOptions:
    """What a user asks for; ``auto`` is for the device to decide.

    Attributes:
        tile: side of square tiles; ``none``: one pass, whatever it takes.
        overlap: pixels that neighbouring tiles share.
        batch_size: tiles at a time.
        precision: type of the numbers that the network computes with.
        capture: whether a GPU may keep a pass as a CUDA graph.
        usual_tile: side of the tiles where nothing is gained by larger ones: on a CPU, which takes others of at most as
            many pixels where these cover a picture better; and for a network in which every pixel depends on the whole
            tile.
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
        overlap: pixels that neighbouring tiles share at least.
        multiple: tiles begin at multiples of this.
        sizes: that tiles may have, as in ``layout.spans``.
    """

    tile: tuple[int, int] | None
    batch_size: int
    precision: Precision
    capture: bool
    resident: bool
    overlap: int = 0
    multiple: int = 1
    sizes: Sizes = "fitted"

    def tiler(
        self,
        device: torch.device | None = None,
        on_tiles: OnTiles | None = None,
        on_shortage: OnShortage | None = None,
    ) -> Tiler:
        """What lays the network so over the picture; the arguments are those of ``Tiler``."""
        layout = self.overlap, self.batch_size, device, on_tiles, on_shortage, self.multiple, self.sizes
        return Tiler(self.tile, *layout)

    @classmethod
    def make(
        cls,
        facts: DeviceFacts,
        asked: ComputeOptions,
        size: tuple[int, int],
        bytes_per_pixel: float = UNKNOWN,
        sees_whole_tile: bool = False,
        multiple: int = 1,
        compiled: bool = False,
    ) -> "DevicePlan":
        """Decide; nothing else is looked at.

        A picture is done whole if a pass of it fits, otherwise in equal parts that fit, those with which the fewest
        pixels are computed. On a CPU as many pixels fit as ``asked.usual_tile`` squared, one tile at a time; a compiled
        network has tiles of that side.

        Args:
            size: height and width of the picture.
            bytes_per_pixel: that a pass of the network takes at its peak, in the precision it computes with.
            sees_whole_tile: every pixel depends on all of its tile (attention, statistics), so that the tile's size
                stays what the network is used to, and where it begins does not matter.
            multiple: to which the network pads what it is given.
            compiled: the network is, and is compiled again for every size of tiles.
        """
        gpu = facts.kind == "cuda"
        sizes: Sizes = "one" if compiled else "fitted" if gpu else "any"
        free = asked.tile == "auto" and not sees_whole_tile
        multiple = 1 if sees_whole_tile else multiple
        at_once = max(1, int(min(WORKING, SHARE * facts.free_memory) / bytes_per_pixel))
        overlap = max(asked.overlap, min(WIDE, math.isqrt(at_once) // 8)) if gpu and free else asked.overlap
        tile: tuple[int, int] | None
        if asked.tile == "none":
            tile = None
        elif asked.tile != "auto":
            tile = asked.tile, asked.tile
        elif sees_whole_tile or (compiled and not gpu):
            tile = asked.usual_tile, asked.usual_tile
        elif gpu:
            tile = fewest_pixels(size, overlap, multiple, at_once, sizes=sizes)
        else:
            highest = max(asked.usual_tile, BAND // size[1])
            tile = fewest_pixels(size, overlap, multiple, asked.usual_tile**2, highest, sizes)
        batch_size = 1 if asked.batch_size == "auto" else asked.batch_size
        if gpu and asked.batch_size == "auto" and tile is not None:
            batch_size = min(max(1, at_once // math.prod(tile)), _count(size, tile, overlap, multiple))
        resident = gpu and math.prod(size) * PICTURE <= SHARE * facts.free_memory
        precision = facts.precision if asked.precision == "auto" else asked.precision
        return cls(tile, batch_size, precision, gpu and asked.capture, resident, overlap, multiple, sizes)


def _count(size: tuple[int, int], tile: tuple[int, int], overlap: int, multiple: int) -> int:
    """Tiles of a picture."""
    return math.prod(len(spans(length, side, overlap, multiple)) for length, side in zip(size, tile, strict=True))


def _cpu_computes_in_bf16() -> bool:
    """Whether the CPU has instructions for bfloat16, and oneDNN is there to use them; emulation would be slow."""
    if not torch.backends.mkldnn.is_available():
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())  # torch before 2.10
