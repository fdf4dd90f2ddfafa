"""Optimizer, learning rate, precision and weight averaging, from their options."""

import contextlib

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from atbsn.options.schema import Adam, Precision, Step, Train
from atbsn.utils.errors import UserError

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def build_optimizer(options: Train, net: nn.Module) -> Optimizer:
    """The optimizer over the parameters of ``net`` that want gradients; fused where the device has it."""
    arguments = options.optim.model_dump(exclude={"type"})
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    fused = isinstance(options.optim, Adam) and parameters[0].device.type in ("cuda", "cpu")
    return getattr(torch.optim, options.optim.type)(parameters, fused=fused or None, **arguments)


def build_scheduler(options: Train, optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    """The learning rate as a function of the iteration; step it once an iteration."""
    scheduler = options.scheduler
    if scheduler.type == "CosineAnnealing":
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=options.total_iter, eta_min=scheduler.eta_min)
    if isinstance(scheduler, Step):
        return lr_scheduler.StepLR(optimizer, scheduler.step_size, scheduler.gamma)
    if scheduler.type == "MultiStep":
        return lr_scheduler.MultiStepLR(optimizer, scheduler.milestones, scheduler.gamma)
    return lr_scheduler.ConstantLR(optimizer, factor=1.0)


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


def resolve_precision(precision: Precision | str, device: torch.device) -> Precision:
    """``auto``: bf16 on a GPU that computes in it, fp32 elsewhere."""
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
