"""Chains of dilated convolutions as ordinary ones on sub-images."""

from collections.abc import Iterable

from torch import Tensor, nn

from atbsn.ops import ways
from atbsn.ops.convolution import Conv2d, convolve
from atbsn.ops.padding import has_any_size
from atbsn.ops.subsample import batch_to_space, space_to_batch


class DilatedConv2d(Conv2d):
    """3 x 3 'same' convolution in steps of ``dilation`` pixels.

    With ``dense`` its kernel is applied without steps, to the sub-images of every ``dilation``-th pixel, which are
    zero-padded by one pixel: the same sums.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__(channels, channels, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor, dense: bool = False) -> Tensor:
        if not dense:
            return super().forward(x)
        assert self.bias is not None, "it has one"
        return convolve(x, self.weight, self.bias, 1, 1)


def through_dilated(modules: Iterable[nn.Module], x: Tensor, dilation: int) -> Tensor:
    """``x`` (B, C, H, W) through ``modules``, which move in steps of ``dilation`` pixels or not at all.

    On a GPU ``in_phases``, where H and W allow it; a CPU's convolutions are as fast with steps, on fewer items.
    """
    if not ways.like_a_gpu(x.device) or has_any_size(x) or x.shape[-2] % dilation or x.shape[-1] % dilation:
        for module in modules:
            x = module(x)
        return x
    return in_phases(modules, x, dilation)


def in_phases(modules: Iterable[nn.Module], x: Tensor, dilation: int) -> Tensor:
    """As ``through_dilated``: such a chain never leads from one phase of ``dilation`` x ``dilation`` pixels to another.

    The phases become items of the batch once, and the kernels go through them without steps.

    Args:
        modules: called with ``dense=True``.
        x: H and W are multiples of ``dilation``.
    """
    phases = space_to_batch(x, dilation)
    for module in modules:
        phases = module(phases, dense=True)
    return batch_to_space(phases, dilation)
