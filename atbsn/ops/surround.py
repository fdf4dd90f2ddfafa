"""A function of a picture that is reflected around its border."""

from collections.abc import Callable

from torch import Tensor

from atbsn.ops.padding import reflect_pad


def surrounded(function: Callable[[Tensor], Tensor], x: Tensor, pad: int) -> Tensor:
    """``function`` of ``x`` (B, C, H, W) with ``pad`` pixels of reflection all around, which are taken off again.

    Args:
        function: (B, C, H, W) -> (..., B, C', H, W), any height and width.
    """
    height, width = x.shape[-2:]
    return function(reflect_pad(x, pad, pad, pad, pad))[..., pad : pad + height, pad : pad + width]
