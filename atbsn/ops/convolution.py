"""Convolutions whose biases cost a GPU little.

cuDNN's convolutions have no bias. PyTorch adds it in a pass of its own, and sums its gradient in another, which is slow
because it uses only one thread for each channel. In a training of C-BSN these two passes took 18 and 25 % of an H200's
time. A matrix product adds a bias while it writes, so 1 x 1 convolutions are computed as matrix products. The gradient
of a bias is computed as a matrix product with ones.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atbsn.ops import ways
from atbsn.ops.autocast import computed_in, outside_autocast


def by_products(x: Tensor) -> bool:
    """Whether ``Conv2d`` computes by matrix products: on a GPU, channels last, not compiled.

    The compiler fuses biases itself.
    """
    return ways.like_a_gpu(x.device) and _lies_in_rows(x) and not torch.compiler.is_compiling()


class Conv2d(nn.Conv2d):
    """``nn.Conv2d``, with the same parameters and results. The input may have further channels if these are zero."""

    def relu(self, x: Tensor) -> Tensor:
        """The ReLU of ``self(x)``, in the same pass over memory where that is a matrix product."""
        if self.bias is not None and self._is_pointwise and by_products(x):
            return pointwise(x, self.weight, self.bias, relu=True)
        return self(x).relu()

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        more = x.shape[1] - weight.shape[1] * self.groups
        if more:
            weight = F.pad(weight, (0, 0, 0, 0, 0, more))
        if bias is None or not by_products(x):
            return super()._conv_forward(x, weight, bias)
        if self._is_pointwise:
            return pointwise(x, weight, bias)
        return convolve(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    @property
    def _is_pointwise(self) -> bool:
        return (*self.kernel_size, *self.stride, *self.padding, self.groups) == (1, 1, 1, 1, 0, 0, 1)


def convolve(x: Tensor, weight: Tensor, bias: Tensor, *how: Any) -> Tensor:
    """``F.conv2d(x, weight, bias, *how)``; the gradient of ``bias`` is a matrix product if ``by_products``."""
    if not (torch.is_grad_enabled() and bias.requires_grad and by_products(x)):
        return F.conv2d(x, weight, bias, *how)
    return _BiasGradient.apply(F.conv2d(x, weight, bias.detach(), *how), bias)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor, relu: bool = False) -> Tensor:
    """Convolve ``x`` (B, C, H, W), channels last, by a 1 x 1 kernel, as one matrix product of all its pixels.

    Args:
        weight: (C', C, 1, 1).
        relu: whether the ReLU of the result is returned.

    Returns:
        (B, C', H, W), channels last.
    """
    return _Pointwise.apply(x, weight, bias, relu)


class _Pointwise(torch.autograd.Function):
    """``pointwise``, computed in the type that autocast asks for, like ``F.conv2d``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
        dtype = computed_in(x)
        rows, matrix = _rows(x).to(dtype), weight.flatten(1).to(dtype)
        ctx.dtypes = x.dtype, weight.dtype, bias.dtype
        shape = x.shape[0], weight.shape[0], *x.shape[2:]
        result = torch.empty(shape, dtype=dtype, device=x.device, memory_format=torch.channels_last)
        with outside_autocast(x.device):  # ``result`` is no view, so later operations may overwrite it
            product = torch._addmm_activation if relu else torch.addmm
            product(bias.to(dtype), rows, matrix.t(), out=_rows(result))
        ctx.save_for_backward(rows, matrix, *([result] if relu else []))
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, matrix, *rectified = ctx.saved_tensors
        if rectified:
            gradient = torch.ops.aten.threshold_backward(gradient, rectified[0], 0)
        of_rows = _rows(gradient)
        of_x = of_weight = of_bias = None
        with outside_autocast(gradient.device):  # the backward pass of a training runs under autocast
            if ctx.needs_input_grad[0]:
                batch, _, height, width = gradient.shape
                of_x = of_rows.mm(matrix).to(ctx.dtypes[0]).view(batch, height, width, -1).permute(0, 3, 1, 2)
            if ctx.needs_input_grad[1]:
                of_weight = of_rows.t().mm(rows)[..., None, None].to(ctx.dtypes[1])
            if ctx.needs_input_grad[2]:
                of_bias = _total(of_rows).to(ctx.dtypes[2])
        return of_x, of_weight, of_bias, None


class _BiasGradient(torch.autograd.Function):
    """Returns ``y`` (B, C, H, W), to which a detached ``bias`` was added, and computes the gradient of ``bias``."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, bias: Tensor) -> Tensor:
        ctx.mark_dirty(y)  # later operations may overwrite it, as they may the output of a convolution
        ctx.dtype = bias.dtype
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        with outside_autocast(gradient.device):
            return gradient, _total(_rows(gradient)).to(ctx.dtype)


def _rows(x: Tensor) -> Tensor:
    """View (B, C, H, W) as (B H W, C). Nothing is copied if it is channels last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _total(rows: Tensor) -> Tensor:
    """The sum of (N, C) over N, accumulated in 32 bits."""
    return _ones(len(rows), rows.dtype, rows.device).mm(rows).squeeze(0)


@cache  # a CUDA graph reads them at the address where they are now; a training has few sizes
@torch.inference_mode(mode=False)
def _ones(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.ones(1, length, dtype=dtype, device=device)


def _lies_in_rows(x: Tensor) -> bool:
    """Whether the channels of every pixel lie beside each other in memory."""
    return x.is_contiguous(memory_format=torch.channels_last)
