"""Under bfloat16 the last layer of every network gives float32: grey levels are not rounded to eight bits."""

import pytest
import torch

from atbsn.archs import build_arch

NETWORKS = [
    {"type": "ATBSN", "width": 4},
    {"type": "StudentA"},
    {"type": "StudentB"},
    {"type": "StudentC", "width": 4},
    {"type": "CBSN", "width": 4},
]


@pytest.mark.parametrize("options", NETWORKS, ids=lambda options: options["type"])
@pytest.mark.parametrize("size", [(64, 64), (33, 46)])  # even, where decoders are folded on the CPU, and odd
@torch.no_grad()
def test_grey_levels_are_not_rounded(options, size):
    torch.manual_seed(0)
    net = build_arch(options)
    noisy = torch.rand(1, 3, *size) * 255
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = net.denoise(noisy)
    assert output.dtype == torch.float32
    assert (output == output.bfloat16().float()).float().mean() < 0.1
    expected = net.denoise(noisy)
    assert (output - expected).square().mean() < 1e-2 * expected.square().mean()
