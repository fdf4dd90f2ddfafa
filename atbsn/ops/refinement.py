"""Random-replacing refinement, R3 (AP-BSN, Lee et al., CVPR 2022, arXiv 2203.11799)."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor

from atbsn.ops.surround import surrounded

MARGIN = 2
"""Reflected pixels around a picture that R3 gives to the network."""


def replacement_masks(noisy: Tensor, times: int, p: float, generator: torch.Generator) -> Iterator[Tensor]:
    """R3's draws: ``times`` masks of the shape of ``noisy``, where each *element* is true with probability ``p``."""
    for _ in range(times):
        draw = torch.rand(noisy.shape, generator=generator, device=generator.device)
        yield (draw < p).to(noisy.device)


def random_replacing_refinement(
    function: Callable[[Tensor], Tensor],
    noisy: Tensor,
    estimate: Tensor,
    masks: Iterable[Tensor],
    at_once: int = 1,
    margin: int = MARGIN,
) -> Tensor:
    """R3: mean over the masks m of ``function(y where m else estimate)``, each with a reflected margin around it.

    A blind-spot ``function`` sees a few noisy pixels among denoised ones: what is left of the noise, and the grid that
    sub-sampling leaves, differs from term to term and averages out. Nothing is clipped in between.

    Args:
        function: (B, C, H + 2 margin, W + 2 margin) to the same shape.
        noisy: y, (B, C, H, W).
        estimate: of the same shape.
        at_once: terms that are one batch.
        margin: pixels of reflection on each side.
    """
    total, count = torch.zeros_like(noisy), 0
    for group in _batched(masks, at_once):
        mixed = torch.cat([torch.where(mask, noisy, estimate) for mask in group])
        output = surrounded(function, mixed, margin)
        total += output.unflatten(0, (len(group), -1)).sum(dim=0)
        count += len(group)
    return total / count


def _batched(masks: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    iterator = iter(masks)
    while group := list(islice(iterator, size)):
        yield group
