"""Copy pictures to the device and back, and convert between the samples of files and floats in [0, 255].

A GPU receives and returns the samples of files (uint8, uint16 or float32) and converts them itself. They are copied
through pinned memory on separate streams, so that one picture is copied while another is computed. On other devices
these are plain conversions.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

_CHUNK = 2**22
"""Bytes that are copied to pinned memory at a time, while the device fetches the chunk before. Chosen by hand."""
_ROWS = 64
"""Rows of a picture that are rounded at a time on a CPU. Chosen by hand: the floats of a whole picture would take four
times its memory."""


def white_of(dtype: np.dtype[Any]) -> float:
    """The value of white in samples of this type: 255 for uint8 and float, 65535 for uint16."""
    return float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else 255.0


def is_asynchronous(device: torch.device) -> bool:
    """Whether the device computes and copies in the background, and converts samples itself: CUDA."""
    return device.type == "cuda"


def to_device(rgb: np.ndarray, device: torch.device, white: float) -> Tensor:
    """(H, W, 3) uint8, uint16 or float in [0, ``white``] to (1, 3, H, W) float32 in [0, 255] on ``device``.

    Its memory layout is channels last. ``rgb`` may be changed as soon as this returns.
    """
    if np.issubdtype(rgb.dtype, np.floating):
        rgb = rgb.astype(np.float32, copy=False)
    if is_asynchronous(device):
        raw = _upload(rgb.view(np.int16) if rgb.dtype == np.uint16 else rgb, device)
        values = raw.to(torch.int32).bitwise_and_(0xFFFF) if rgb.dtype == np.uint16 else raw
        values = values.to(torch.float32)
    else:
        values = torch.from_numpy(rgb.astype(np.float32))
    if white == 65535:
        values = values / 257  # as ``pictures.to_tensor`` does, so that the last bit is equal, too
    elif white != 255:
        values = values * float(np.float32(255 / white))
    return values.permute(2, 0, 1)[None]


class CleanRows:
    """Rows of a clean picture that are being copied to the CPU: clipped, and integers rounded half up.

    Args:
        values: (3, h, W) float in [0, 255], on any device.
        dtype: type of the samples to give.
        white: their value of white.
    """

    def __init__(self, values: Tensor, dtype: np.dtype[Any], white: float) -> None:
        self.height = values.shape[1]
        self._dtype, self._white = dtype, white
        self._values: Tensor | None = values
        if is_asynchronous(values.device):
            finite = _all_finite(values)
            self._samples, self._arrival = _download(_rounded(values, dtype, white), finite)
            self._values = None

    def into(self, rows: np.ndarray) -> bool:
        """Wait for the rows and write them to ``rows`` (h, W, 3); returns whether all values were finite.

        If they were not, ``rows`` is not complete.
        """
        if self._values is None:
            self._arrival.synchronize()
            samples, finite = self._samples
            if finite:  # torch copies with all threads: touching new memory takes longer than the copy itself
                torch.from_numpy(rows.view(np.int16) if self._dtype == np.uint16 else rows).copy_(samples)
            return bool(finite)
        if not _all_finite(self._values):
            return False
        top = 0
        for part in self._values.split(_ROWS, dim=1):
            rounded = _rounded(part, self._dtype, self._white).cpu().numpy()
            rows[top : top + part.shape[1]] = rounded.view(np.uint16) if self._dtype == np.uint16 else rounded
            top += part.shape[1]
        return True


def _all_finite(values: Tensor) -> Tensor:
    """Whether all values are finite, by their sum, which takes one pass over memory; ``isfinite`` takes four."""
    return values.sum(dtype=torch.float32).isfinite()


def _rounded(values: Tensor, dtype: np.dtype[Any], white: float) -> Tensor:
    """(3, h, W) in [0, 255] to (h, W, 3) of ``dtype``; for uint16, which torch hardly has, int16 of the same bits."""
    values = values.permute(1, 2, 0).float().clamp(0, 255)
    if white == 65535:
        values = values * 257
    elif white != 255:
        values = values * float(np.float32(white / 255))
    if dtype == np.uint8:
        return (values + 0.5).to(torch.uint8)
    if dtype == np.uint16:
        return (values + 0.5).to(torch.int32).to(torch.int16)
    return values.contiguous()


@lru_cache(maxsize=16)
def _streams(device: torch.device) -> tuple[torch.cuda.Stream, torch.cuda.Stream]:
    """The streams that copy samples to the device and back."""
    return torch.cuda.Stream(device), torch.cuda.Stream(device)


def _upload(rows: np.ndarray, device: torch.device) -> Tensor:
    """Copy ``rows`` to the device. Computations on the device wait for the copy; the caller does not."""
    into, _ = _streams(device)
    pinned = torch.empty(rows.shape, dtype=_torch_type(rows), pin_memory=True)
    step = max(1, _CHUNK // rows[0].nbytes)
    with torch.cuda.stream(into):
        raw = torch.empty_like(pinned, device=device)
        for top in range(0, len(rows), step):
            np.copyto(pinned[top : top + step].numpy(), rows[top : top + step])
            raw[top : top + step].copy_(pinned[top : top + step], non_blocking=True)
    computing = torch.cuda.current_stream(device)
    computing.wait_stream(into)
    raw.record_stream(computing)
    return raw


def _download(*tensors: Tensor) -> tuple[list[Tensor], torch.cuda.Event]:
    """Copy ``tensors`` to pinned memory; the copies are complete once the event has happened."""
    device = tensors[0].device
    _, out = _streams(device)
    out.wait_stream(torch.cuda.current_stream(device))
    copies = []
    with torch.cuda.stream(out):
        for tensor in tensors:
            pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            copies.append(pinned.copy_(tensor, non_blocking=True))
            tensor.record_stream(out)
        return copies, out.record_event()


def _torch_type(array: np.ndarray) -> torch.dtype:
    return {"uint8": torch.uint8, "int16": torch.int16, "float32": torch.float32}[array.dtype.name]
