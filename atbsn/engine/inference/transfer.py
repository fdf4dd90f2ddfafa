"""The way of pictures to the device and back: as the samples of their files, converted and rounded where it is fast.

A GPU gets and gives uint8 or uint16 (float32 where the picture is), through pinned memory, on streams of their own, so
that one picture is copied while another one is computed. On anything else these are plain conversions.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

_CHUNK = 2**22
"""Bytes that are copied to pinned memory at a time, while the device fetches those before."""
_ROWS = 64
"""Values of a picture that are rounded at once on a CPU: floats of a whole picture would take four times its memory."""


def white_of(dtype: np.dtype[Any]) -> float:
    """The value of white that samples of this type have in files: 255, 65535, and 255 for float."""
    return float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else 255.0


def is_asynchronous(device: torch.device) -> bool:
    """Whether samples are sent to this device as they are, and fetched so."""
    return device.type == "cuda"


def to_device(rgb: np.ndarray, device: torch.device, white: float) -> Tensor:
    """(H, W, 3) uint8, uint16 or float in [0, ``white``] to (1, 3, H, W) float32 in [0, 255] on ``device``.

    Strided channels last. ``rgb`` may be changed as soon as this returns.
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
        values = values / 257  # as ``pictures.to_tensor``: no value but the last bit depends on it
    elif white != 255:
        values = values * float(np.float32(255 / white))
    return values.permute(2, 0, 1)[None]


class CleanRows:
    """The clean rows of a picture on their way to the CPU, clipped, and rounded half up where they are integers.

    Args:
        values: (3, h, W) float in [0, 255], on any device.
        dtype: of the samples.
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
        """Wait for them and put them into ``rows`` (h, W, 3); whether all of them were numbers."""
        if self._values is None:
            self._arrival.synchronize()
            samples, finite = self._samples
            if finite:  # by all threads: new memory costs more than the copy
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
    """Whether all of them are numbers: then their sum is one. In one pass over memory; ``isfinite`` takes four."""
    return values.sum(dtype=torch.float32).isfinite()


def _rounded(values: Tensor, dtype: np.dtype[Any], white: float) -> Tensor:
    """(3, h, W) to (h, W, 3) uint8, int16 with the bits of uint16, or float32."""
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
    """Moves samples to the device and back."""
    return torch.cuda.Stream(device), torch.cuda.Stream(device)


def _upload(rows: np.ndarray, device: torch.device) -> Tensor:
    """``rows`` on the device; computing there waits for them, the caller does not."""
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
    """Pinned copies of ``tensors``, complete when the event has happened."""
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
