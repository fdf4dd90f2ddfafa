"""Move batches to the device, the next one while the current one is used."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from atbsn.data.patches import to_batch


def on_device(raws: Iterable[dict[str, Tensor]], device: torch.device) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Yield the batches of a loader as a method needs them (``to_batch``), each with the indices of its pictures.

    On a GPU a batch is copied, turned and converted on a stream of its own, one batch ahead. The copy only overlaps
    with the computation if the loader pins its memory.

    Yields:
        The batch of ``to_batch`` on ``device``, and (B,) indices on the CPU.
    """
    if device.type != "cuda":
        for raw in raws:
            yield to_batch(raw, device), raw["index"]
        return
    stream = torch.cuda.Stream(device)
    ahead = None
    for raw in raws:
        with torch.cuda.stream(stream):
            batch = to_batch(raw, device)
        following = batch, raw["index"], stream.record_event()
        if ahead is not None:
            yield _arrived(*ahead)
        ahead = following
    if ahead is not None:
        yield _arrived(*ahead)


def _arrived(batch: dict[str, Tensor], index: Tensor, arrival: torch.cuda.Event) -> tuple[dict[str, Tensor], Tensor]:
    """Make the current stream wait for the batch, and keep the batch's memory until that stream has used it."""
    stream = torch.cuda.current_stream(batch["noisy"].device)
    stream.wait_event(arrival)
    for tensor in batch.values():
        if tensor.is_cuda:
            tensor.record_stream(stream)
    return batch, index
