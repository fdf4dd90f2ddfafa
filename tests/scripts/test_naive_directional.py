"""What speed is measured against computes the same."""

from typing import Any

import pytest
import torch

import naive_directional as naive
from atbsn.archs.lgbpn import LGBPN, REFINE, TEST
from atbsn.archs.tmbsn import TMBSN


@torch.no_grad()
def test_tm_bsn() -> None:
    torch.manual_seed(0)
    net, plain = TMBSN(4, 2).double(), naive.TMBSN(4, 2).double()
    plain.load_state_dict(net.state_dict())
    x = torch.rand(2, 3, 24, 24, dtype=torch.float64) * 255
    torch.testing.assert_close(net.forward_teachers(x, naive.KS), plain.forward_teachers(x))


@pytest.mark.parametrize("scales", [TEST["sidd"], REFINE["dnd"]], ids=["test", "refinement"])
@torch.no_grad()
def test_lg_bpn(scales: Any) -> None:
    torch.manual_seed(0)
    net = LGBPN(8, num_modules=1, head_width=4, num_blocks=1).double()
    x = torch.rand(1, 3, 48, 36, dtype=torch.float64) * 255
    strides, kernels = (scales.local_stride, scales.global_stride), (scales.local_kernel, scales.global_kernel)
    torch.testing.assert_close(net.forward_scaled(x, scales), naive.lgbpn_pass(net, x, strides, kernels))
