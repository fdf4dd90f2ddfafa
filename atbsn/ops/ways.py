"""Which of two algorithms with the same result a device uses.

On a GPU, passes over memory and the starting of kernels cost most. On a CPU, multiplications and cache misses do.
"""

import torch


def like_a_gpu(device: torch.device) -> bool:
    """Whether networks use the algorithms for a GPU on ``device``: on every device but the CPU, also on ``meta``.

    Call it as ``ways.like_a_gpu``, because tests replace it to try the GPU's algorithms on a CPU.
    """
    return device.type != "cpu"
