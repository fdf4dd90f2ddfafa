import pytest
import torch
from torch.nn import functional as F

from atbsn.ops.pixel_shuffle_down import pd_mosaic, pd_mosaic_inverse
from atbsn.utils.errors import UserError


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (1, 3), (2, 2), (5, 0), (5, 2)])
def test_phases_side_by_side_and_back(stride, pad):
    x = torch.rand(2, 3, 20, 30)
    rows = []
    for a in range(stride):
        tiles = [F.pad(x[:, :, a::stride, b::stride], (pad, pad, pad, pad)) for b in range(stride)]
        rows.append(torch.cat(tiles, dim=3))
    mosaic = pd_mosaic(x, stride, pad)
    assert torch.equal(mosaic, torch.cat(rows, dim=2))
    assert torch.equal(pd_mosaic_inverse(mosaic, stride, pad), x)


def test_wrong_size():
    with pytest.raises(UserError, match=r"picture of 20 x 31 pixels: not a multiple of the stride 5"):
        pd_mosaic(torch.zeros(1, 3, 20, 31), 5)
