"""The type of numbers that a forward pass computes in."""

import contextlib
from typing import Literal

import torch

from atbsn.engine.inference.plan import DeviceFacts
from atbsn.utils.errors import UserError
from atbsn.utils.types import Precision

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""torch's types by their names in option files."""


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The context in which a forward pass computes in ``precision``. For fp32 it does nothing.

    Raises:
        UserError: fp16 on the CPU, where losses would not be scaled.
    """
    if precision == "fp32":
        return contextlib.nullcontext()
    if precision == "fp16" and device.type == "cpu":
        raise UserError("precision: fp16 needs a GPU; use bf16 or fp32 on the CPU")
    return torch.autocast(device.type, dtype=_TYPES[precision])


def resolve_precision(precision: Precision | Literal["auto"], device: torch.device) -> Precision:
    """Replace ``auto`` by bf16 if the device has instructions for it, otherwise by fp32."""
    return DeviceFacts.of(device).precision if precision == "auto" else precision
