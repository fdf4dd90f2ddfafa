"""Which devices take the ways of a GPU, and what is kept there."""

import pytest
import torch

from atbsn.ops import ways
from atbsn.ops.constant import WHITE, Constant


@pytest.mark.parametrize(("device", "as_a_gpu"), [("cpu", False), ("cuda", True), ("cuda:1", True), ("meta", True)])
def test_all_but_the_cpu(device: str, as_a_gpu: bool) -> None:
    assert ways.like_a_gpu(torch.device(device)) == as_a_gpu


def test_a_constant_is_copied_once_to_every_device_and_type() -> None:
    constant = Constant(torch.tensor([1.5, WHITE]))
    for device, dtype in (("cpu", torch.float32), ("cpu", torch.float64), ("meta", torch.float32)):
        x = torch.zeros(3, dtype=dtype, device=device)
        given = constant.like(x)
        assert (given.dtype, given.device, given.shape) == (dtype, x.device, (2,))
        assert constant.like(x + 1) is given
        assert device == "meta" or given.tolist() == [1.5, 255.0]
