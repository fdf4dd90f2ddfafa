"""What every network of the framework offers beside ``forward``."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Tiled = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
"""``tiled(function, x)`` applies ``function`` to ``x`` (B, C, H, W), at once or tile by tile."""


def untiled(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply ``function`` to the whole picture at once."""
    return function(x)


def in_full_precision(function: Callable[..., Tensor], weight: Tensor, *inputs: Tensor) -> Tensor:
    """Apply the last layer, a ``function`` with this ``weight``, outside of autocast, in the type of the weight.

    A bfloat16 grey value between 128 and 255 is rounded to a whole number, which would cost 0.03 dB.
    """
    inputs = tuple(x.to(weight.dtype) for x in inputs)
    if weight.device.type == "meta":  # has shapes alone, and no autocast
        return function(*inputs)
    with torch.autocast(weight.device.type, enabled=False):
        return function(*inputs)


class Network(nn.Module):
    """Base of all architectures: an ``nn.Module`` that knows how it denoises a whole picture.

    Tensors are (B, 3, H, W), RGB, float in [0, 255].
    """

    size_multiple: int = 1
    """Training patches must be a multiple of this (2 to the number of poolings)."""

    tile_overlap: int = 32
    """Pixels that neighbouring tiles share unless told otherwise. A network that looks at most a quarter of this far
    gives in tiles exactly what it gives in one pass."""

    blind_spots: bool = False
    """Whether ``forward`` takes a blind spot ``k`` and ``forward_teachers`` exists."""

    def denoise(self, noisy: Tensor, k: int = 3, tiled: Tiled = untiled) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], any size; the same shape back, not clipped.

        Args:
            k: the blind spot, for networks that have one; ordinary networks leave it unused.
            tiled: how the network is laid over the picture. What depends on the whole picture
                (C-BSN's statistics) is computed outside of it.
        """
        del k
        return tiled(self, noisy)

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        """The constructor arguments of a bare state dict with these key names and shapes; None if not ours."""
        del shapes
        return None
