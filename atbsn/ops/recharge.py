"""Recharging: part of every target gets the noise back (APR-RD, AAAI 2025, and TM-BSN, CVPR 2026)."""

import torch
from torch import Tensor


def recharge(targets: Tensor, noisy: Tensor, index: Tensor | None = None) -> Tensor:
    """Replace one of the targets by the noisy value at every pixel, in all of its channels.

    Distilled with an L1 loss summed over the targets, the student so learns a median of the noisy pixel and all
    teachers but one, which keeps detail that the teachers agree to have lost.

    Args:
        targets: (K, B, 3, H, W), the outputs of K teachers.
        noisy: (B, 3, H, W), what they were made from.
        index: (B, H, W) whole numbers from 0 to K - 1, whose target takes the noisy pixel; drawn uniformly from
            torch's generator, on the device of ``noisy``, if not given.

    Returns:
        (K, B, 3, H, W), a new tensor.
    """
    num_teachers = len(targets)
    if index is None:
        index = torch.randint(num_teachers, (noisy.shape[0], *noisy.shape[2:]), device=noisy.device)
    teacher = torch.arange(num_teachers, device=targets.device).view(-1, 1, 1, 1, 1)
    return torch.where(index.unsqueeze(1) == teacher, noisy.to(targets.dtype), targets)
