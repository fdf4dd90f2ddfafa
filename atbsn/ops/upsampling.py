"""Up-sampling by nearest neighbours, and the convolution of an up-sampled picture without up-sampling it."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.ops import ways
from atbsn.ops.autocast import outside_autocast


def upsample_nearest(x: Tensor) -> Tensor:
    """Repeat every pixel of ``x`` (B, C, H, W) in 2 x 2 places: (B, C, 2H, 2W), in the type of ``x``.

    Under autocast on a GPU, ``F.interpolate`` would return float32: twice the bytes here and in the concatenation that
    follows, and a copy back for the convolution.
    """
    with outside_autocast(x.device):
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


def upsampled_beside(x: Tensor, skip: Tensor) -> Tensor:
    """Concatenate ``x`` (B, C, H, W), up-sampled, and ``skip`` (B, C', 2H, 2W), in the type of ``x``.

    On a GPU both are written directly to their places in the result. So the up-sampled features, the largest tensor,
    are not written and read once more.
    """
    if not ways.like_a_gpu(x.device) or torch.compiler.is_compiling():
        return torch.cat((upsample_nearest(x), skip.to(x.dtype)), dim=1)
    return _UpsampledBeside.apply(x, skip)


class _UpsampledBeside(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, skip: Tensor) -> Tensor:
        batch, channels, height, width = ctx.shape = x.shape
        ctx.dtype = skip.dtype
        last = x.is_contiguous(memory_format=torch.channels_last)
        result = torch.empty(
            (batch, channels + skip.shape[1], 2 * height, 2 * width), dtype=x.dtype, device=x.device,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )  # fmt: skip
        result[:, :channels].unflatten(3, (width, 2)).unflatten(2, (height, 2)).copy_(x[:, :, :, None, :, None])
        result[:, channels:].copy_(skip)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        of_x = of_skip = None
        _, channels, height, width = ctx.shape
        if ctx.needs_input_grad[0]:
            of_upsampled, size = gradient[:, :channels], (2 * height, 2 * width)
            of_x = torch.ops.aten.upsample_nearest2d_backward(of_upsampled, size, ctx.shape, None, None)
        if ctx.needs_input_grad[1]:
            of_skip = gradient[:, channels:].to(ctx.dtype)
        return of_x, of_skip


def upsampling_kernel(weight: Tensor) -> Tensor:
    """Make the kernel of a transposed convolution that up-samples x2 and convolves with ``weight`` (C', C, 3, 3).

    An up-sampled picture shows every pixel in 2 x 2 places, so the taps that meet the same pixel can be added
    beforehand. That takes 4 instead of 9 multiplications for each pixel. With zero padding, up to rounding::

        conv2d(upsampled(x), weight, padding=1) = conv_transpose2d(x, upsampling_kernel(weight), stride=2, padding=1)

    Returns:
        (C, C', 4, 4): sums over 2 x 2 taps, turned by 180 degrees, as transposed convolutions need them.
    """
    return 4 * F.avg_pool2d(weight, 2, stride=1, padding=1).flip((2, 3)).transpose(0, 1)
