"""Random-replacing refinement, R3 (AP-BSN, Lee et al., CVPR 2022, arXiv 2203.11799)."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor

from atbsn.ops.surround import surrounded

MARGIN = 2
"""Pixels of reflection that R3 puts around a picture, as published."""


def replacement_masks(noisy: Tensor, times: int, p: float, generator: torch.Generator) -> Iterator[Tensor]:
    """Draw R3's masks: ``times`` masks of the shape of ``noisy``, bool. Each *element* is true with probability ``p``.

    An element is one channel of one pixel.
    """
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
    """R3: the mean over the masks m of ``function(y where m else estimate)``.

    The blind-spot ``function`` sees a few noisy pixels among denoised ones. The noise that is left, and the grid that
    sub-sampling leaves, differ from term to term and average out. Nothing is clipped in between.

    Args:
        function: maps (B, C, H + 2 margin, W + 2 margin) to the same shape.
        noisy: y, (B, C, H, W).
        estimate: a denoised picture of the same shape.
        masks: what ``replacement_masks`` yields.
        at_once: number of terms that are computed as one batch.
        margin: pixels of reflection around each term.
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
