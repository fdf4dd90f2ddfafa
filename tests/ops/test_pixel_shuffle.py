import pytest
import torch
from torch.nn import functional as F

from atbsn.ops.pixel_shuffle import pixel_shuffle_downsample, pixel_shuffle_upsample


@pytest.mark.parametrize(("stride", "margin"), [(1, 0), (1, 3), (2, 2), (5, 0), (5, 2)])
def test_phases_side_by_side_and_back(stride: int, margin: int) -> None:
    x = torch.rand(2, 3, 20, 30)
    rows = []
    for a in range(stride):
        tiles = [F.pad(x[:, :, a::stride, b::stride], (margin,) * 4) for b in range(stride)]
        rows.append(torch.cat(tiles, dim=3))
    laid = pixel_shuffle_downsample(x, stride, margin)
    assert torch.equal(laid, torch.cat(rows, dim=2))
    assert torch.equal(pixel_shuffle_upsample(laid, stride, margin), x)
