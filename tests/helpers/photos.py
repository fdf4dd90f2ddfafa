"""A small network for photographs, and pictures of noise alone, where it does not matter what is denoised how well."""

import numpy as np
import torch

from atbsn.archs import build_arch
from atbsn.archs.photonet import PhotoNet

NETWORK = {"type": "PhotoNet", "widths": [4, 4], "blocks": 1, "middle_blocks": 1}


def tiny(seed: int = 0) -> PhotoNet:
    """A network of ``NETWORK`` that changes its input."""
    torch.manual_seed(seed)
    net = build_arch(NETWORK).eval()
    assert isinstance(net, PhotoNet)
    torch.nn.init.normal_(net.tail.weight, std=0.02)
    return net


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Independent samples, uint8."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
