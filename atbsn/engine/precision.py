"""The type of numbers that a forward pass computes with."""

import contextlib
from typing import Literal

import torch

from atbsn.engine.inference.plan import DeviceFacts
from atbsn.utils.errors import UserError
from atbsn.utils.types import Precision

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The context of a forward pass in ``precision``; float32 where nothing is to be cast.

    Raises:
        UserError: fp16 on the CPU, whose losses would not be scaled.
    """
    if precision == "fp32":
        return contextlib.nullcontext()
    if precision == "fp16" and device.type == "cpu":
        raise UserError("precision: fp16 needs a GPU; use bf16 or fp32 on the CPU")
    return torch.autocast(device.type, dtype=_TYPES[precision])


def resolve_precision(precision: Precision | Literal["auto"], device: torch.device) -> Precision:
    """``auto``: bf16 where the device computes in it, fp32 elsewhere."""
    return DeviceFacts.of(device).precision if precision == "auto" else precision
