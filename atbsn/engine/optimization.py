"""Optimizer, learning rate, precision and weight averaging, from their options."""

import contextlib
import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from atbsn.options.schema import Adam, CosineAnnealing, MultiStep, Precision, Step, Train
from atbsn.utils.errors import UserError

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def build_optimizer(options: Train, net: nn.Module) -> Optimizer:
    """The optimizer over the parameters of ``net`` that want gradients; fused where the device has it."""
    arguments = options.optim.model_dump(exclude={"type"})
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    fused = isinstance(options.optim, Adam) and parameters[0].device.type in ("cuda", "cpu")
    return getattr(torch.optim, options.optim.type)(parameters, fused=fused or None, **arguments)


def build_scheduler(options: Train, optimizer: Optimizer) -> LambdaLR:
    """The learning rate as a function of the iteration alone; step it once an iteration."""
    return LambdaLR(optimizer, _rate(options))


def _rate(options: Train) -> Callable[[int], float]:
    """Iterations done to the part of ``lr`` that is left."""
    scheduler, total, lr = options.scheduler, options.total_iter, options.optim.lr
    if isinstance(scheduler, CosineAnnealing):
        low = scheduler.eta_min / lr
        return lambda done: low + (1 - low) * (1 + math.cos(math.pi * min(done, total) / total)) / 2
    if isinstance(scheduler, Step):
        return lambda done: scheduler.gamma ** (done // scheduler.step_size)
    if isinstance(scheduler, MultiStep):
        milestones = sorted(scheduler.milestones)
        return lambda done: scheduler.gamma ** bisect_right(milestones, done)
    return lambda done: 1.0


def build_ema(options: Train, net: nn.Module) -> AveragedModel | None:
    """An exponential moving average of the weights of ``net``, if ``ema_decay`` asks for one."""
    if not options.ema_decay:
        return None
    return AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(options.ema_decay))


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
