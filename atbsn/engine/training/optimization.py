"""Optimizer, learning rate and weight averaging, from their options."""

import math
from bisect import bisect_right
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from atbsn.options.schema import Adam, CosineAnnealing, MultiStep, Step, Train


def build_optimizer(options: Train, net: nn.Module) -> Optimizer:
    """The optimizer over the parameters of ``net`` that want gradients; fused where the device has it."""
    arguments = options.optim.model_dump(exclude={"type"})
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    fused = isinstance(options.optim, Adam) and parameters[0].device.type in ("cuda", "cpu")
    return getattr(torch.optim, options.optim.type)(parameters, fused=fused or None, **arguments)


def build_scheduler(options: Train, optimizer: Optimizer) -> LambdaLR:
    """The learning rate as a function of the iteration alone; step it once an iteration."""
    options = options.in_iterations()
    rate, warmup = _rate(options), options.scheduler.warmup_iter
    return LambdaLR(optimizer, lambda done: rate(done) * min(1.0, (done + 1) / warmup) if warmup else rate(done))


def _rate(options: Train) -> Callable[[int], float]:
    """Iterations done to the part of ``lr`` that is left."""
    scheduler, total, lr = options.scheduler, options.total_iter, options.optim.lr
    if isinstance(scheduler, CosineAnnealing):
        low, hold = scheduler.eta_min / lr, scheduler.hold
        steps = max(1, total - hold)
        return lambda done: low + (1 - low) * (1 + math.cos(math.pi * min(max(0, done - hold), steps) / steps)) / 2
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
