"""Random replacing refinement (R3) of AP-BSN (arXiv 2203.11799), section 3.4."""

from collections.abc import Callable

import torch
from torch import Tensor


def random_replacing(
    one_pass: Tensor,
    noisy: Tensor,
    network_function: Callable[[Tensor], Tensor],
    passes: int = 8,
    p: float = 0.16,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean of the network's outputs for the clean picture so far, with some of its values noisy again::

        mean over t of B(where m_t then y else x_hat),    m_t true with probability p, for every pixel and channel

    Args:
        one_pass: x_hat, (B, 3, H, W).
        noisy: y, of the same shape.
        network_function: B, (B, 3, H, W) -> the same shape, without sub-sampling. Padding is its affair.
        passes: T; with 0 the result is ``one_pass``.
        mask: (T, B, 3, H, W), the m_t; drawn if not given.
        generator: to draw from, on the device of ``noisy``; torch's own without it.

    Returns:
        (B, 3, H, W), not clipped.
    """
    if not passes:
        return one_pass
    total = torch.zeros_like(one_pass)
    for t in range(passes):
        if mask is not None:
            replaced = mask[t]
        else:
            replaced = torch.rand(noisy.shape, generator=generator, device=noisy.device) < p
        total += network_function(torch.where(replaced, noisy, one_pass))
    return total / passes
