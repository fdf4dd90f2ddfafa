"""Chains of dilated convolutions, computed as ordinary convolutions of sub-images."""

from collections.abc import Iterable

from torch import Tensor, nn

from atbsn.ops import ways
from atbsn.ops.convolution import Conv2d, convolve
from atbsn.ops.padding import has_any_size
from atbsn.ops.subsample import batch_to_space, space_to_batch


class DilatedConv2d(Conv2d):
    """3 x 3 'same' convolution with dilation.

    With ``dense`` its kernel is applied without dilation to the sub-images of every ``dilation``-th pixel, which are
    zero-padded by one pixel. That gives the same sums.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__(channels, channels, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor, dense: bool = False) -> Tensor:
        if not dense:
            return super().forward(x)
        assert self.bias is not None, "it has one"
        return convolve(x, self.weight, self.bias, 1, 1)


def through_dilated(modules: Iterable[nn.Module], x: Tensor, dilation: int) -> Tensor:
    """Pass ``x`` (B, C, H, W) through ``modules``, whose kernels have this ``dilation`` or are 1 x 1.

    On a GPU it is done by ``in_phases`` if H and W are multiples of ``dilation``. On a CPU dilated convolutions are as
    fast as others.
    """
    if not ways.like_a_gpu(x.device) or has_any_size(x) or x.shape[-2] % dilation or x.shape[-1] % dilation:
        for module in modules:
            x = module(x)
        return x
    return in_phases(modules, x, dilation)


def in_phases(modules: Iterable[nn.Module], x: Tensor, dilation: int) -> Tensor:
    """Pass ``x`` through ``modules`` as ``through_dilated`` does, but with the phases of ``x`` as items of the batch.

    A phase has every ``dilation``-th pixel, down and across. Kernels with this dilation never lead from one phase to
    another, so on the phases they are applied without dilation.

    Args:
        modules: they are called with ``dense=True``.
        x: H and W are multiples of ``dilation``.
    """
    phases = space_to_batch(x, dilation)
    for module in modules:
        phases = module(phases, dense=True)
    return batch_to_space(phases, dilation)
