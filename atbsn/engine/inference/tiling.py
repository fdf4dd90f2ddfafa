"""Apply a network to a picture of any size: in tiles, and averaged over the eight orientations."""

from collections import deque
from collections.abc import Callable, Iterator
from copy import copy
from functools import lru_cache
from itertools import groupby, product

import torch
from torch import Tensor

from atbsn.engine.inference.layout import Sizes, Span, context, spans
from atbsn.ops.dihedral import dihedral, undihedral
from atbsn.utils.errors import UserError

Function = Callable[[Tensor], Tensor]
"""Maps a batch (B, C, h, w) to (..., B, C', h, w)."""
OnTiles = Callable[[int, int], None]
"""Called with the number of tiles that are done and the number of all tiles."""
OnShortage = Callable[[int, int, int], None]
"""Called with the number, height and width of tiles for which memory did not suffice."""

_MIN_PART_SIDE = 32
"""Pixels: side of the smallest tile that is cut into smaller ones when memory does not suffice. Chosen by hand."""


class Tiler:
    """``tiler(function, x)``: apply ``function`` to ``x`` (B, C, H, W) in overlapping tiles.

    ``layout.spans`` places the tiles. Unless ``sizes`` is ``any``, all tiles have one size and all batches one length
    (the last batch is filled up by repetition), so a compiled network is compiled once. Where two tiles overlap, the
    outer parts of the overlap are context only (``layout.context``), and across the middle one tile fades linearly into
    the other. So a function that sees no farther than the context, and pools at most ``multiple`` pixels, gives the
    same result as without tiles, and the identity returns every value exactly.

    ``x`` may be on the CPU and only the tiles on ``device``. The device then holds one batch at a time, and a CUDA
    device computes the next batch while the CPU blends the last one. Beside ``x`` and the output, one row of tiles is
    in memory.

    If memory does not suffice for a batch, it is computed in halves, and a single tile in smaller tiles.

    Args:
        tile: height and width of a tile, or one number for both; None: one pass. Pictures no larger than a tile are
            computed in one pass, too.
        overlap: pixels that neighbours share at least; at most half a tile.
        batch_size: tiles at a time (each of B pictures).
        device: where ``function`` computes; None: where ``x`` is.
        on_tiles: called after every batch.
        on_shortage: called when memory did not suffice.
        multiple: tiles begin at multiples of this number of pixels: 2 to the power of the number of poolings.
        sizes: which sizes tiles may have, as in ``layout.spans``.

    Raises:
        UserError: a size is out of range.
    """

    def __init__(
        self,
        tile: int | tuple[int, int] | None,
        overlap: int,
        batch_size: int = 1,
        device: torch.device | str | None = None,
        on_tiles: OnTiles | None = None,
        on_shortage: OnShortage | None = None,
        multiple: int = 1,
        sizes: Sizes = "fitted",
    ) -> None:
        self.tile = (tile, tile) if isinstance(tile, int) else tile
        min_side = None if self.tile is None else min(self.tile)
        if min_side is not None and min_side < 1:
            raise UserError(f"tile: {min_side} is not a size; give a positive number of pixels, or none")
        if overlap < 0:
            raise UserError(f"overlap: {overlap} is negative; give 0 or more pixels")
        if min_side is not None and 2 * overlap > min_side:
            raise UserError(
                f"overlap: {overlap} is more than half of the tile, {min_side}; use {min_side // 2} or less"
            )
        if batch_size < 1:
            raise UserError(f"batch_size: {batch_size} tiles at a time is not possible; give 1 or more")
        self.overlap, self.multiple, self.sizes = overlap, multiple, sizes
        self.batch_size = batch_size
        self.device = None if device is None else torch.device(device)
        self._on_tiles, self._on_shortage = on_tiles, on_shortage
        self._too_many: int | None = None  # pixels at once for which memory did not suffice

    @torch.no_grad()
    def __call__(self, function: Function, x: Tensor) -> Tensor:
        """Apply ``function``, (B, C, h, w) -> (..., B, C', h, w), without gradients.

        Returns:
            (..., B, C', H, W), of the dtype and on the device of ``x``.
        """
        height, width = x.shape[-2:]
        rows, columns = self.rows(height), self.columns(width)
        if len(rows) == len(columns) == 1:
            output = self._within_memory(function, x.to(self.device or x.device)).to(x)
            self._tell(1, 1)
            return output
        outputs = self._outputs(function, x, list(product(rows, columns)))
        picture = row = None
        row_end = 0
        for top, _ in rows:
            tile_end = 0
            for left, _ in columns:
                tile = next(outputs)
                if len(columns) == 1:
                    row = tile
                    continue
                if row is None or row.shape[-2] != tile.shape[-2]:
                    row = tile.new_empty(*tile.shape[:-1], width)
                tile_end = lay(row, tile, left, tile_end, dim=-1)
            assert row is not None
            if len(rows) == 1:
                return row
            picture = row.new_empty(*row.shape[:-2], height, width) if picture is None else picture
            row_end = lay(picture, row, top, row_end, dim=-2)
        assert picture is not None
        return picture

    def rows(self, height: int) -> list[Span]:
        """The first and last pixel (exclusive) of each row of tiles in a picture of this height."""
        return self._spans(height, None if self.tile is None else self.tile[0])

    def columns(self, width: int) -> list[Span]:
        """The first and last pixel (exclusive) of each column of tiles in a picture of this width."""
        return self._spans(width, None if self.tile is None else self.tile[1])

    def _spans(self, length: int, side: int | None) -> list[Span]:
        return spans(length, length if side is None else side, self.overlap, self.multiple, self.sizes)

    def _outputs(self, function: Function, x: Tensor, places: list[tuple[Span, Span]]) -> Iterator[Tensor]:
        """The outputs of the tiles at ``places`` (rows, columns), in order, on the device of ``x``."""
        device = self.device or x.device
        # A CUDA device computes in the background: a batch is yielded once the next one has been started.
        asynchronous = device.type == "cuda" and x.device.type == "cpu"
        pending: deque[tuple[tuple[Tensor, ...], torch.cuda.Event | None]] = deque()
        done = 0
        for batch in self._batches(places):
            filled = batch
            if self.sizes != "any":
                filled = batch + batch[-1:] * (min(self.batch_size, len(places)) - len(batch))
            tiles = torch.cat([x[..., slice(*rows), slice(*columns)] for rows, columns in filled])
            if asynchronous:
                tiles = tiles.pin_memory()
            output = self._within_memory(function, tiles.to(device, non_blocking=asynchronous))
            output = output.to(x.device, x.dtype, non_blocking=asynchronous)
            arrival = torch.cuda.current_stream(device).record_event() if asynchronous else None
            pending.append((output.split(len(x), dim=-4)[: len(batch)], arrival))
            done += len(batch)
            self._tell(done, len(places))
            if len(pending) > asynchronous:
                yield from _arrived(*pending.popleft())
        for outputs, arrival in pending:
            yield from _arrived(outputs, arrival)

    def _batches(self, places: list[tuple[Span, Span]]) -> Iterator[list[tuple[Span, Span]]]:
        """``places`` in order, in batches of tiles of one size."""
        for _, same in groupby(places, key=lambda place: tuple(end - start for start, end in place)):
            tiles = list(same)
            yield from (tiles[first : first + self.batch_size] for first in range(0, len(tiles), self.batch_size))

    def _tell(self, done: int, tiles: int) -> None:
        if self._on_tiles is not None:
            self._on_tiles(done, tiles)

    def _within_memory(self, function: Function, tiles: Tensor) -> Tensor:
        """``function(tiles)``, in parts if memory does not suffice."""
        pixels = len(tiles) * tiles.shape[-2] * tiles.shape[-1]
        if self._too_many is None or pixels < self._too_many or not self._can_part(tiles):
            try:
                return function(tiles)
            except torch.OutOfMemoryError:
                if not self._can_part(tiles):
                    raise
            # The tensors of the failed call are freed only here, after the handler.
            self._too_many = pixels
            if self._on_shortage is not None:
                self._on_shortage(len(tiles), *tiles.shape[-2:])
            if tiles.is_cuda:
                torch.cuda.empty_cache()
        if len(tiles) > 1:
            return torch.cat([self._within_memory(function, part) for part in tiles.chunk(2)], dim=-4)
        smaller = copy(self)
        smaller.tile, smaller.batch_size, smaller.device, smaller._on_tiles = self._half(tiles), 1, None, None
        output = smaller(function, tiles)
        self._too_many = smaller._too_many
        return output

    def _half(self, tiles: Tensor) -> tuple[int, int]:
        """Height and width of the parts of a tile: its longer side is halved, as far as the overlap allows."""
        sides = [
            min(side, max(2 * self.overlap, _MIN_PART_SIDE, (side + self.overlap + 1) // 2))
            for side in tiles.shape[-2:]
        ]
        height, width = tiles.shape[-2:]
        if sides[0] < height and (height >= width or sides[1] == width):
            return sides[0], width
        return height, sides[1]

    def _can_part(self, tiles: Tensor) -> bool:
        return len(tiles) > 1 or self._half(tiles) != tuple(tiles.shape[-2:])


@torch.no_grad()
def self_ensemble(function: Function, x: Tensor) -> Tensor:
    """The mean of ``function`` over the eight orientations of ``x`` (self-ensemble), without gradients.

    Args:
        function: (B, C, h, w) -> (..., h, w). Four of the eight inputs have height and width swapped.
        x: (B, C, H, W), H and W any size.

    Returns:
        (..., H, W): the mean of the outputs, each turned back. Only one output is in memory at a time.
    """
    mean = function(x).clone()  # the function may return x itself, which must stay
    for orientation in range(1, 8):
        output = undihedral(function(dihedral(x, orientation)), orientation)
        mean.lerp_(output, 1 / (orientation + 1))
    return mean


def _arrived(outputs: tuple[Tensor, ...], arrival: torch.cuda.Event | None) -> tuple[Tensor, ...]:
    """Wait until ``outputs`` are copied to the CPU, and return them."""
    if arrival is not None:
        arrival.synchronize()
    return outputs


def lay(canvas: Tensor, tile: Tensor, start: int, filled: int, dim: int) -> int:
    """Write ``tile`` into ``canvas`` from ``start`` on along ``dim``, and blend where they overlap.

    Args:
        filled: end of the part of ``canvas`` that is filled already.

    Returns:
        The new end of the filled part.
    """
    overlap, size = filled - start, tile.shape[dim]
    margin = context(overlap)
    fade = overlap - 2 * margin
    if fade:
        # a + w (b - a) is exact where a and b are equal.
        weight = _fade(fade, tile.device, tile.dtype).unflatten(0, (-1,) + (1,) * (-1 - dim))
        canvas.narrow(dim, start + margin, fade).lerp_(tile.narrow(dim, margin, fade), weight)
    rest = margin + fade
    canvas.narrow(dim, start + rest, size - rest).copy_(tile.narrow(dim, rest, size - rest))
    return start + size


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # the cached tensor is also used outside of inference mode
def _fade(length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return (torch.arange(length, device=device, dtype=dtype) + 0.5) / length
