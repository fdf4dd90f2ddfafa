"""The type of numbers that a forward pass computes with."""

import contextlib
from typing import Literal

import torch

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
    if precision != "auto":
        return precision
    native = torch.cuda.is_bf16_supported if device.type == "cuda" else _cpu_computes_in_bf16
    return "bf16" if device.type in ("cuda", "cpu") and native() else "fp32"


def _cpu_computes_in_bf16() -> bool:
    """Whether the CPU has instructions for bfloat16, and oneDNN is there to use them; emulation would be slow."""
    if not torch.backends.mkldnn.is_available():
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())  # torch before 2.10
