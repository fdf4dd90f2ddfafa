"""Build the optimizer, the learning rate schedule and the average of the weights from their options."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from atbsn.options.schema import Train


def build_optimizer(options: Train, net: nn.Module) -> Optimizer:
    """The optimizer of the parameters of ``net`` that require gradients; the fused version if the device has one."""
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer: type[Optimizer] = getattr(torch.optim, options.optim.type)
    return optimizer(parameters, **options.optim.arguments(parameters[0].device.type))


def build_scheduler(options: Train, optimizer: Optimizer) -> LambdaLR:
    """The learning rate schedule, a function of the iteration alone. Step it once for each iteration."""
    options = options.in_iterations()
    rate, total_iter, lr = options.scheduler.rate, options.total_iter, options.optim.lr
    return LambdaLR(optimizer, lambda done: rate(done, total_iter, lr))


class MovingAverage(AveragedModel):
    """An exponential moving average of the weights. It starts with the weights after the first step.

    It is ``AveragedModel`` with ``get_ema_multi_avg_fn``, but does not copy the number of updates to the device at
    every step.

    Args:
        decay: share of the old average in the new one.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        super().__init__(net)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        averages: list[Tensor] = list(self.module.parameters())
        weights: list[Tensor] = list(model.parameters())
        if int(self.n_averaged) == 0:
            torch._foreach_copy_(averages, weights)
        else:
            torch._foreach_lerp_(averages, weights, 1 - self.decay)
        for average, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)
        self.n_averaged += 1


def build_ema(options: Train, net: nn.Module) -> MovingAverage | None:
    """The moving average of the weights of ``net``, if ``ema_decay`` asks for one."""
    return MovingAverage(net, options.ema_decay) if options.ema_decay else None
