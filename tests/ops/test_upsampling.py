"""Up-sampling by nearest neighbours keeps the type, whatever autocast would like."""

import pytest
import torch
from torch.nn import functional as F

from atbsn.ops import upsampling
from atbsn.ops.upsampling import upsample_nearest


def test_every_pixel_in_four_places():
    x = torch.arange(4.0).view(1, 1, 2, 2)
    assert upsample_nearest(x)[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_outside_of_autocast(monkeypatch):
    """CUDA's list of what autocast turns to float32 has it; the CPU's has not, so the context is looked at."""
    seen = []
    original = F.interpolate

    def noted(*args, **how):
        seen.append(torch.is_autocast_enabled("cpu"))
        return original(*args, **how)

    monkeypatch.setattr(upsampling.F, "interpolate", noted)
    with torch.autocast("cpu", torch.bfloat16):
        assert upsample_nearest(torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")
    assert seen == [False]


@pytest.mark.gpu
def test_stays_in_16_bits_on_a_gpu():
    x = torch.rand(1, 8, 4, 4, device="cuda", dtype=torch.bfloat16)
    with torch.autocast("cuda", torch.bfloat16):
        assert upsample_nearest(x).dtype == torch.bfloat16
