"""What every method has: helpers that stay frozen, a state of its own, and checks that several share."""

import copy
from typing import Any

import pytest
import torch

from atbsn.archs import build_arch
from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.models.base import Model, check_plain, check_stds, check_teacher_channels, cleaned_by, epoch_of
from atbsn.utils.errors import UserError


class Helped(Model):
    def __init__(self, net: Network, *helpers: Network) -> None:
        super().__init__(net)
        self.first, *others = [self.keep_frozen(helper) for helper in helpers]
        self.others = others


@pytest.fixture
def model() -> Helped:
    torch.manual_seed(0)
    return Helped(*(build_arch({"type": "StudentC", "width": width}) for width in (2, 2, 3)))


def test_helpers_are_no_part_of_the_method(model: Helped) -> None:
    assert {name.split(".")[0] for name in model.state_dict()} == {"net"}
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"net"}
    model.train()
    assert not model.first.training and not any(p.requires_grad for p in model.first.parameters())


def test_helpers_follow_every_conversion(model: Helped) -> None:
    model.double()
    assert {p.dtype for helper in (model.first, *model.others) for p in helper.parameters()} == {torch.float64}
    twin = copy.deepcopy(model).bfloat16()
    assert next(twin.first.parameters()).dtype == torch.bfloat16
    assert next(model.first.parameters()).dtype == torch.float64


def test_their_weights_have_a_checksum(model: Helped) -> None:
    first, second = model.frozen_sha256()
    assert first != second and len(first) == 64
    assert copy.deepcopy(model).frozen_sha256() == [first, second]
    assert copy.deepcopy(model).to(memory_format=torch.channels_last).frozen_sha256() == [first, second]
    with torch.no_grad():
        next(model.first.parameters())[0] += 1
    assert model.frozen_sha256()[0] != first and model.frozen_sha256()[1] == second


class Counting(Model):
    def __init__(self, net: Network) -> None:
        super().__init__(net)
        self.register_buffer("count", torch.zeros(2))


def test_a_method_takes_its_own_state_back_and_leaves_the_network_alone() -> None:
    net = build_arch({"type": "StudentC", "width": 2})
    method, other = Counting(net), Counting(copy.deepcopy(net))
    method.count += 3
    assert list(method.own_state()) == ["count"]
    other.load_own_state(method.own_state())
    assert other.count.tolist() == [3, 3]
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in other.net.state_dict().items())


def test_what_a_teacher_cleans_is_a_picture() -> None:
    class Shifted(torch.nn.Module):
        def forward(self, noisy: torch.Tensor) -> torch.Tensor:
            return noisy.double() * 2 - 100

    shifted: Any = Shifted()
    cleaned = cleaned_by(shifted, torch.tensor([0.0, 49.0, 100.0, 200.0]).view(1, 1, 2, 2))
    assert cleaned.flatten().tolist() == [0, 0, 100, 255] and cleaned.dtype == torch.float32


def test_shared_checks() -> None:
    check_stds(1, 1)
    check_stds(1, 5)
    with pytest.raises(UserError, match=r"model\.flat_std: 5 exceeds texture_std = 1"):
        check_stds(5, 1)
    net = build_arch({"type": "StudentC", "width": 2})
    check_teacher_channels(net, "teacher.pth", 3)
    with pytest.raises(UserError, match=r"teacher\.pth: is for 3 channels, the network for 1"):
        check_teacher_channels(net, "teacher.pth", 1)


def test_epochs_are_counted_from_one_to_the_last() -> None:
    progress = torch.tensor([0.0, 0.249, 0.25, 0.99, 1.0])
    assert epoch_of(progress, 4).tolist() == [1, 1, 2, 4, 4]


class _Blind(BlindSpotNetwork):
    """It has a hole."""


class _Larger(Network):
    output_scale = 2


class _Guided(Network):
    def forward(self, noisy: torch.Tensor, guide: torch.Tensor, level: float, strength: float = 1.0) -> torch.Tensor:
        return noisy + level * strength * guide


class _Ordinary(Network):
    def forward(self, noisy: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
        return strength * noisy


class _OpenEnded(Network):
    def forward(self, noisy: torch.Tensor, *others: float, **settings: float) -> torch.Tensor:
        return noisy


@pytest.mark.parametrize(
    ("net_class", "said"),
    [
        (_Blind, "_Blind has a blind spot; use UNet alone"),
        (_Larger, "_Larger changes the size of the picture; use UNet alone"),
        (_Guided, "_Guided needs guide, level beside the picture; use UNet alone"),
    ],
)
def test_an_ordinary_network_takes_a_picture_and_gives_one_of_its_size(net_class: type[Network], said: str) -> None:
    """What has defaults, and further arguments of any number, need not be given."""
    with pytest.raises(UserError) as error:
        check_plain(net_class, "UNet alone")
    assert str(error.value) == f"network.type: {said}"
    check_plain(_Ordinary)
    check_plain(_OpenEnded)
