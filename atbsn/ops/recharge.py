"""Recharging: some pixels of every target become noisy again (APR-RD, AAAI 2025, and TM-BSN, CVPR 2026)."""

import torch
from torch import Tensor


def recharge(targets: Tensor, noisy: Tensor, index: Tensor | None = None) -> Tensor:
    """Replace, at every pixel, one of the targets by the noisy value, in all channels.

    A student that is distilled with an L1 loss, summed over the targets, then learns a median of the noisy pixel and of
    all teachers but one. So it keeps detail that all teachers lost.

    Args:
        targets: (K, B, 3, H, W), the outputs of K teachers.
        noisy: (B, 3, H, W), their input.
        index: (B, H, W) whole numbers from 0 to K - 1: which target takes the noisy pixel. If it is not given, it is
            drawn uniformly from torch's generator, on the device of ``noisy``.

    Returns:
        (K, B, 3, H, W), a new tensor.
    """
    num_teachers = len(targets)
    if index is None:
        index = torch.randint(num_teachers, (noisy.shape[0], *noisy.shape[2:]), device=noisy.device)
    teacher = torch.arange(num_teachers, device=targets.device).view(-1, 1, 1, 1, 1)
    return torch.where(index.unsqueeze(1) == teacher, noisy.to(targets.dtype), targets)
