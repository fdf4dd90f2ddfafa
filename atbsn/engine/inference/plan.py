"""How a picture is computed on a device, decided from the device, the network and the user's options."""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from atbsn.engine.inference.layout import Sizes, fewest_pixels, spans
from atbsn.engine.inference.tiling import OnShortage, OnTiles, Tiler
from atbsn.utils.types import Precision

WORKING = 4 * 2**30
"""Bytes: most memory of one pass, however large the card. Chosen by hand: this is enough for a million pixels, and with
so many the start of kernels takes little of the time. More would only be taken from other programs."""
SHARE = 0.5
"""Largest share of the free memory for one pass. Chosen by hand: the other half is for the picture itself, cuDNN's
workspaces, fragments that the allocator cannot use, and networks that need more than was measured."""
SMALL = 2**18
"""Pixels: pictures up to this size are done in one pass and the network is not measured. They need less than 2 GB with
any network in float32."""
PICTURE = 100
"""Bytes for each pixel of a picture on the device: noisy, clean and finished (12 bytes each), rounded, and the copies
that ``finish`` makes. Estimated by hand, generously."""
UNKNOWN = 8192.0
"""Bytes a pixel that are assumed for a network that was not measured: more than any of ours needs."""
WIDE = 192
"""Pixels that large tiles on a GPU share. With four tiles of 3000 x 1144, 14 % of the pixels are computed twice. Small
tiles share an eighth of their side.
Networks with five poolings see 150 to 300 pixels around. With this overlap, the output of an untrained student C in
tiles differs 50 times less from the untiled one than with the 32 pixels of a CPU
(``tests/engine/inference/test_tiled_networks.py``)."""
BAND = 2**20
"""Pixels: on a CPU, most pixels in a row of tiles that is higher than the usual tile. It takes 12 MB for each float32
picture. Chosen by hand."""


@dataclass(frozen=True)
class DeviceFacts:
    """The properties of a device that decide how a picture is computed.

    Attributes:
        kind: ``cpu``, ``cuda`` or another of torch's names.
        free_memory: bytes that are still free; 0 for devices other than CUDA, where it is not used.
        capability: CUDA's compute capability.
        bf16: whether a CPU has instructions for bfloat16.
    """

    kind: str
    free_memory: int = 0
    capability: tuple[int, int] = (0, 0)
    bf16: bool = False

    @classmethod
    def of(cls, device: torch.device) -> "DeviceFacts":
        """Read the properties of a device of this machine. Memory that this process holds but does not use is free."""
        if device.type == "cuda":
            held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            free = torch.cuda.mem_get_info(device)[0] + held
            return cls("cuda", free, torch.cuda.get_device_capability(device))
        return cls(device.type, bf16=device.type == "cpu" and _cpu_computes_in_bf16())

    @property
    def precision(self) -> Precision:
        """The fastest type of numbers whose loss is not seen: bf16 if it has instructions for it, otherwise fp32.

        CUDA devices have them from compute capability 8.0 on.
        """
        return "bf16" if self.bf16 or (self.kind == "cuda" and self.capability >= (8, 0)) else "fp32"


@dataclass(frozen=True)
class ComputeOptions:
    """The user's options for tiles and precision. With ``auto`` the device decides.

    Attributes:
        tile: side of square tiles, pixels; ``none``: one pass, whatever memory it needs.
        overlap: pixels that neighbouring tiles share.
        batch_size: tiles at a time.
        precision: type of numbers that the network computes in.
        capture: whether a GPU may keep a pass as a CUDA graph.
        usual_tile: side of the tiles, pixels, if ``tile`` is ``auto`` and larger ones gain nothing: on a CPU, and for a
            network in which every pixel depends on the whole tile. On a CPU, tiles of other shapes with at most as many
            pixels are used if they cover the picture with less computation.
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
        precision: type of numbers that the network computes in.
        capture: from the second pass of a size on, replay it as a CUDA graph.
        resident: whether the whole picture is on the device; otherwise only its tiles are copied there.
        overlap: pixels that neighbouring tiles share at least.
        multiple: tiles begin at multiples of this number of pixels.
        sizes: which sizes tiles may have, as in ``layout.spans``.
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
        """The ``Tiler`` of this plan; the arguments are those of ``Tiler``."""
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
        """Decide how a picture is computed, from the arguments alone.

        A picture is computed in one pass if that fits into memory, otherwise in the equal tiles that fit and need the
        fewest computed pixels. On a CPU a tile has at most ``asked.usual_tile`` squared pixels, and tiles are computed
        one at a time. A compiled network has square tiles of that side on a CPU.

        Args:
            facts: properties of the device.
            asked: the user's options.
            size: height and width of the picture.
            bytes_per_pixel: memory that a pass of the network takes at its peak, in the precision it computes in.
            sees_whole_tile: whether every pixel depends on the whole tile (attention, statistics). Then tiles have the
                size that the network was trained on, and may begin anywhere.
            multiple: the network pads its input to a multiple of this number of pixels.
            compiled: whether the network is compiled, and so compiled again for every size of tile.
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
    """Number of tiles of a picture."""
    return math.prod(len(spans(length, side, overlap, multiple)) for length, side in zip(size, tile, strict=True))


def _cpu_computes_in_bf16() -> bool:
    """Whether the CPU has instructions for bfloat16 and torch has oneDNN, which uses them. Emulation would be slow."""
    if not torch.backends.mkldnn.is_available():
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())  # torch before 2.10
