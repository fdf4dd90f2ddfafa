"""Networks over pictures of any size: tile by tile, and over the eight orientations."""

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
OnTiles = Callable[[int, int], None]
"""Is told how many tiles of how many are done."""
OnShortage = Callable[[int, int, int], None]
"""Is told how many tiles of which height and width were too much for the memory."""

_LEAST = 32
"""Pixels: side of the smallest tile that is cut into smaller ones when memory does not suffice. Chosen by hand."""


class Tiler:
    """``tiler(function, x)``: apply ``function`` to ``x`` (B, C, H, W) in overlapping tiles.

    Where tiles lie, ``layout.spans`` says. Unless they may have ``any`` size, all have one and all batches one length
    (the last one is filled up by repetition), so a compiled network is compiled once. Where two overlap, the outer
    parts of the overlap are context only (``layout.context``); across its middle one tile fades linearly into the
    other. Hence a function that looks no farther than the context, and pools at most ``multiple`` pixels, gives what
    it gives untiled, and the identity gives back every value exactly.

    ``x`` may lie on the CPU while tiles visit ``device``: the device only ever holds one batch, and a CUDA
    device computes the next one while the CPU blends the last. Beside ``x`` and the output there is only one
    row of tiles.

    Where memory does not suffice for a batch, it is done in halves, and a single tile in smaller ones.

    Args:
        tile: height and width of a tile, or both in one number; None: everything in one go, as pictures within one
            tile are.
        overlap: neighbours share at least so many pixels; at most half a tile.
        batch_size: tiles at a time (each of B pictures).
        device: where ``function`` computes; None: where ``x`` is.
        on_tiles: called after every batch.
        on_shortage: called when memory did not suffice.
        multiple: tiles begin at multiples of this: 2 to the number of the function's poolings.
        sizes: that tiles may have, as in ``layout.spans``.

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
        least = None if self.tile is None else min(self.tile)
        if least is not None and least < 1:
            raise UserError(f"tile: {least} is not a size; give a positive number of pixels, or none")
        if overlap < 0:
            raise UserError(f"overlap: {overlap} is negative; give 0 or more pixels")
        if least is not None and 2 * overlap > least:
            raise UserError(f"overlap: {overlap} is more than half of the tile, {least}; use {least // 2} or less")
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
        """From where to where the rows of tiles reach in a picture of this height."""
        return self._spans(height, None if self.tile is None else self.tile[0])

    def columns(self, width: int) -> list[Span]:
        """From where to where the columns of tiles reach in a picture of this width."""
        return self._spans(width, None if self.tile is None else self.tile[1])

    def _spans(self, length: int, side: int | None) -> list[Span]:
        return spans(length, length if side is None else side, self.overlap, self.multiple, self.sizes)

    def _outputs(self, function: Function, x: Tensor, places: list[tuple[Span, Span]]) -> Iterator[Tensor]:
        """The outputs of the tiles at ``places`` (rows, columns), in order, on the device of ``x``."""
        device = self.device or x.device
        # A CUDA device returns before it is done: the batch that is handed out is the one before the newest.
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
        """``places`` in order, as many of one size as are done at a time."""
        for _, same in groupby(places, key=lambda place: tuple(end - start for start, end in place)):
            tiles = list(same)
            yield from (tiles[first : first + self.batch_size] for first in range(0, len(tiles), self.batch_size))

    def _tell(self, done: int, tiles: int) -> None:
        if self._on_tiles is not None:
            self._on_tiles(done, tiles)

    def _within_memory(self, function: Function, tiles: Tensor) -> Tensor:
        """``function(tiles)``, in as many parts as memory demands."""
        pixels = len(tiles) * tiles.shape[-2] * tiles.shape[-1]
        if self._too_many is None or pixels < self._too_many or not self._can_part(tiles):
            try:
                return function(tiles)
            except torch.OutOfMemoryError:
                if not self._can_part(tiles):
                    raise
            # Only here, behind the handler, are the tensors of the failed call gone.
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
        """Sides of what a tile can be cut into: half as high where it is higher than wide, otherwise half as wide."""
        sides = [min(side, max(2 * self.overlap, _LEAST, (side + self.overlap + 1) // 2)) for side in tiles.shape[-2:]]
        height, width = tiles.shape[-2:]
        if sides[0] < height and (height >= width or sides[1] == width):
            return sides[0], width
        return height, sides[1]

    def _can_part(self, tiles: Tensor) -> bool:
        return len(tiles) > 1 or self._half(tiles) != tuple(tiles.shape[-2:])


@torch.no_grad()
def self_ensemble(function: Function, x: Tensor) -> Tensor:
    """The mean of ``function`` over the eight orientations of ``x`` (x8), without gradients.

    Args:
        function: (B, C, h, w) -> (..., h, w); four times out of eight it sees height and width swapped.
        x: (B, C, H, W), H and W any size.

    Returns:
        (..., H, W): the outputs turned back, averaged as they come, never all in memory.
    """
    mean = function(x).clone()  # the function may return x itself, which must stay
    for orientation in range(1, 8):
        output = undihedral(function(dihedral(x, orientation)), orientation)
        mean.lerp_(output, 1 / (orientation + 1))
    return mean


def _arrived(outputs: tuple[Tensor, ...], arrival: torch.cuda.Event | None) -> tuple[Tensor, ...]:
    """``outputs``, as soon as their copy to the CPU is complete."""
    if arrival is not None:
        arrival.synchronize()
    return outputs


def lay(canvas: Tensor, tile: Tensor, start: int, filled: int, dim: int) -> int:
    """Lay ``tile`` into ``canvas`` from ``start`` along ``dim``, which is filled up to ``filled`` by now.

    Returns:
        Where it is filled up to now.
    """
    overlap, size = filled - start, tile.shape[dim]
    margin = context(overlap)
    fade = overlap - 2 * margin
    if fade:
        # From a to b by a + w (b - a): where both agree, rounding cannot make a difference.
        weight = _fade(fade, tile.device, tile.dtype).unflatten(0, (-1,) + (1,) * (-1 - dim))
        canvas.narrow(dim, start + margin, fade).lerp_(tile.narrow(dim, margin, fade), weight)
    rest = margin + fade
    canvas.narrow(dim, start + rest, size - rest).copy_(tile.narrow(dim, rest, size - rest))
    return start + size


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # kept for whoever comes, also with gradients
def _fade(length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return (torch.arange(length, device=device, dtype=dtype) + 0.5) / length
