"""Which of two ways to the same numbers a device goes: what is fast on a GPU, where passes over memory and the starting
of kernels count, is often slow on a CPU, where multiplications and its cache do."""

import torch


def like_a_gpu(device: torch.device) -> bool:
    """Whether networks go a GPU's way on ``device``: on all but the CPU, ``meta`` among them.

    Call it as ``ways.like_a_gpu``: tests put the CPU in a GPU's place by replacing it.
    """
    return device.type != "cpu"
