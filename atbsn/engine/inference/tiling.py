"""Networks over pictures of any size: tile by tile, and over the eight orientations."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, product

import torch
from torch import Tensor

from atbsn.ops.dihedral import dihedral, undihedral
from atbsn.utils.errors import UserError

Function = Callable[[Tensor], Tensor]


class Tiler:
    """``tiler(function, x)``: apply ``function`` to ``x`` (B, C, H, W) in overlapping tiles.

    All tiles of a picture have one size (the last ones are shifted inwards) and all batches one length (the
    last one is filled up by repetition), so a compiled network is compiled once. Where two tiles overlap, the
    outer quarters of the overlap are context only; across its middle half one tile fades linearly into the
    other. Hence a function that looks at most ``overlap // 4`` pixels around gives what it gives untiled, and
    the identity gives back every value exactly.

    ``x`` may lie on the CPU while tiles visit ``device``: the device only ever holds one batch, and a CUDA
    device computes the next one while the CPU blends the last. Beside ``x`` and the output there is only one
    row of tiles.

    Args:
        tile: height and width of a tile; None: everything in one go, as pictures within one tile are.
        overlap: neighbours share at least so many pixels; at most half a tile.
        batch_size: tiles at a time (each of B pictures).
        device: where ``function`` computes; None: where ``x`` is.

    Raises:
        UserError: a size is out of range.
    """

    def __init__(
        self,
        tile: int | None,
        overlap: int,
        batch_size: int = 1,
        device: torch.device | str | None = None,
    ) -> None:
        if tile is not None and tile < 1:
            raise UserError(f"tile: {tile} is not a size; give a positive number of pixels, or none")
        if overlap < 0:
            raise UserError(f"overlap: {overlap} is negative; give 0 or more pixels")
        if tile is not None and 2 * overlap > tile:
            raise UserError(f"overlap: {overlap} is more than half of the tile, {tile}; use {tile // 2} or less")
        if batch_size < 1:
            raise UserError(f"batch_size: {batch_size} tiles at a time is not possible; give 1 or more")
        self.tile = tile
        self.overlap = overlap
        self.batch_size = batch_size
        self.device = None if device is None else torch.device(device)

    @torch.no_grad()
    def __call__(self, function: Function, x: Tensor) -> Tensor:
        """Apply ``function``, (B, C, h, w) -> (..., B, C', h, w), without gradients.

        Returns:
            (..., B, C', H, W), of the dtype and on the device of ``x``.
        """
        height, width = x.shape[-2:]
        tops, lefts = self.starts(height), self.starts(width)
        if len(tops) == len(lefts) == 1:
            return function(x.to(self.device or x.device)).to(x)
        outputs = self._outputs(function, x, list(product(tops, lefts)))
        first = next(outputs)
        outputs = chain([first], outputs)
        picture = first.new_empty(*first.shape[:-2], height, width)
        row = first.new_empty(*first.shape[:-1], width)
        row_end = 0
        for top in tops:
            tile_end = 0
            for left in lefts:
                tile_end = lay(row, next(outputs), left, tile_end, dim=-1)
            row_end = lay(picture, row, top, row_end, dim=-2)
        return picture

    def starts(self, length: int) -> list[int]:
        """Where tiles begin along an axis of ``length``."""
        if self.tile is None or length <= self.tile:
            return [0]
        last = length - self.tile
        return [*range(0, last, self.tile - self.overlap), last]

    def _outputs(self, function: Function, x: Tensor, corners: list[tuple[int, int]]) -> Iterator[Tensor]:
        """The outputs of the tiles at ``corners`` (top, left), in order, on the device of ``x``."""
        device = self.device or x.device
        # A CUDA device returns before it is done: the batch that is handed out is the one before the newest.
        asynchronous = device.type == "cuda" and x.device.type == "cpu"
        height, width = (min(length, self.tile or length) for length in x.shape[-2:])
        batch_size = min(self.batch_size, len(corners))
        pending: deque[tuple[tuple[Tensor, ...], torch.cuda.Event | None]] = deque()
        for start in range(0, len(corners), batch_size):
            batch = corners[start : start + batch_size]
            filled = batch + batch[-1:] * (batch_size - len(batch))
            tiles = torch.cat([x[..., top : top + height, left : left + width] for top, left in filled])
            if asynchronous:
                tiles = tiles.pin_memory()
            output = function(tiles.to(device, non_blocking=asynchronous))
            output = output.to(x.device, x.dtype, non_blocking=asynchronous)
            arrival = torch.cuda.current_stream(device).record_event() if asynchronous else None
            pending.append((output.split(len(x), dim=-4)[: len(batch)], arrival))
            if len(pending) > asynchronous:
                yield from _arrived(*pending.popleft())
        for outputs, arrival in pending:
            yield from _arrived(outputs, arrival)


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
    margin = overlap // 4
    fade = overlap - 2 * margin
    if fade:
        # From a to b by a + w (b - a): where both agree, rounding cannot make a difference.
        weight = (torch.arange(fade, device=tile.device, dtype=tile.dtype) + 0.5) / fade
        weight = weight.unflatten(0, (-1,) + (1,) * (-1 - dim))
        canvas.narrow(dim, start + margin, fade).lerp_(tile.narrow(dim, margin, fade), weight)
    rest = margin + fade
    canvas.narrow(dim, start + rest, size - rest).copy_(tile.narrow(dim, rest, size - rest))
    return start + size
