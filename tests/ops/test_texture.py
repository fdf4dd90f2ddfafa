"""The weight of texture: one function for SASS and for the distillation by regions."""

import math
from types import ModuleType

import pytest
import torch
from torch import Tensor

from atbsn.models import distill, sass
from atbsn.ops import texture
from atbsn.ops.texture import texture_weight


def textured_picture() -> Tensor:
    """Three fields of a bright grey with independent noise in each channel, of standard deviation 0, 5 and 35."""
    noise = torch.randn(1, 3, 40, 120, generator=torch.Generator().manual_seed(0))
    return noise * torch.tensor([0.0, 5.0, 35.0]).repeat_interleave(40) + 200


def test_texture_weight_follows_the_local_standard_deviation_of_grey() -> None:
    picture = textured_picture()
    weight = texture_weight(picture, 1.0, 5.0)
    assert weight.shape == (1, 1, 40, 120)
    flat, between, texture = (weight[..., 5:-5, 40 * part + 5 : 40 * part + 35] for part in range(3))
    torch.testing.assert_close(flat, torch.full_like(flat, 1 / (1 + math.e)))  # std = 0: sigmoid(0 - 1)
    torch.testing.assert_close(between, torch.full_like(between, 0.5))
    assert texture.min() > 0.99
    grey = picture.mean(dim=1)[0]
    row, column = 20, 77  # partly on the flat field
    std = grey[row - 3 : row + 4, column - 3 : column + 4].std(correction=0)
    assert std > 5
    torch.testing.assert_close(weight[0, 0, row, column], torch.sigmoid(std - 5))


def test_the_published_deviations_are_1_and_5() -> None:
    picture = textured_picture()
    assert torch.equal(texture_weight(picture), texture_weight(picture, 1.0, 5.0))


@pytest.mark.parametrize("module", [distill, sass])
def test_there_is_one(module: ModuleType) -> None:
    assert module.texture_weight is texture.texture_weight


def test_it_keeps_its_digits_where_the_picture_is_bright() -> None:
    """The variance is a small difference of large squares there: E[g^2] - E[g]^2 in float32 misses by 0.04."""
    faint = (textured_picture() - 200) / 50 + 250
    inner = faint.double().mean(dim=1, keepdim=True).unfold(2, 7, 1).unfold(3, 7, 1)
    std = inner.std(dim=(-2, -1), correction=0)
    exact = torch.sigmoid((std - 0.02).clamp(max=0) + (std - 0.05).clamp(min=0))
    weight = texture_weight(faint, 0.02, 0.05)[..., 3:-3, 3:-3]
    torch.testing.assert_close(weight.double(), exact, rtol=0, atol=2e-5)
