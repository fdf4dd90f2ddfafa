"""Apply a function to a picture that is reflected beyond its border."""

from collections.abc import Callable

from torch import Tensor

from atbsn.ops.padding import reflect_pad


def surrounded(function: Callable[[Tensor], Tensor], x: Tensor, pad: int) -> Tensor:
    """Apply ``function`` to ``x`` (B, C, H, W) with ``pad`` pixels of reflection on each side, and cut these off again.

    Convolutions pad with zeros beyond an edge, where the scene goes on. With the reflection the error along an edge is
    smaller.

    Args:
        function: maps (B, C, h, w) to (..., h, w), of any height and width.
    """
    height, width = x.shape[-2:]
    return function(reflect_pad(x, pad, pad, pad, pad))[..., pad : pad + height, pad : pad + width]
