"""What every method has: helpers that stay frozen."""

import copy

import pytest
import torch

from atbsn.archs import build_arch
from atbsn.models.base import Model


class Helped(Model):
    def __init__(self, net, *helpers):
        super().__init__(net)
        self.first, *others = [self.keep_frozen(helper) for helper in helpers]
        self.others = others


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Helped(*(build_arch({"type": "StudentC", "width": width}) for width in (2, 2, 3)))


def test_helpers_are_no_part_of_the_method(model):
    assert {name.split(".")[0] for name in model.state_dict()} == {"net"}
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"net"}
    model.train()
    assert not model.first.training and not any(p.requires_grad for p in model.first.parameters())


def test_helpers_follow_every_conversion(model):
    model.double()
    assert {p.dtype for helper in (model.first, *model.others) for p in helper.parameters()} == {torch.float64}
    twin = copy.deepcopy(model).bfloat16()
    assert next(twin.first.parameters()).dtype == torch.bfloat16
    assert next(model.first.parameters()).dtype == torch.float64


def test_their_weights_have_a_checksum(model):
    first, second = model.frozen_sha256()
    assert first != second and len(first) == 64
    assert copy.deepcopy(model).frozen_sha256() == [first, second]
    assert copy.deepcopy(model).to(memory_format=torch.channels_last).frozen_sha256() == [first, second]
    with torch.no_grad():
        next(model.first.parameters())[0] += 1
    assert model.frozen_sha256()[0] != first and model.frozen_sha256()[1] == second
