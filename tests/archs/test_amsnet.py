"""AMSNet: what a pixel sees, and that the passes are put together right."""

import pytest
import torch
from helpers.networks import influence, picture
from torch import Tensor

from atbsn.archs import build_arch
from atbsn.archs.amsnet import AMSNet
from atbsn.ops.subsample import space_to_batch
from atbsn.utils.errors import UserError

OPTIONS = {"type": "AMSNet", "width": 4, "num_blocks": [1, 2, 1, 1], "num_refinement": 2}


def build() -> AMSNet:
    torch.manual_seed(0)
    net = build_arch(OPTIONS).double().eval()
    assert isinstance(net, AMSNet)
    return net


def half_of(x: Tensor) -> Tensor:
    return torch.rand(x[:, :1].shape, generator=torch.Generator().manual_seed(2)) < 0.5


def test_number_of_parameters() -> None:
    """Restormer's, as it was published for denoising: 26.11 million."""
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in AMSNet().parameters()) == 26_111_668


def test_exactly_blind_to_the_pixel_itself_through_all_its_attention() -> None:
    net, x = build(), picture(32, 24, batch=2).requires_grad_()
    output = net.in_halves(x, half_of(x))
    for row, column in [(0, 0), (31, 23), (8, 9), (17, 2)]:
        seen = influence(output, x, row, column)
        assert seen[row, column] == 0
        assert (seen > 0).sum() > 300  # of the 768 pixels all that are hidden in the other pass, of one picture or both


@torch.no_grad()
def test_each_pixel_is_of_the_pass_that_hid_it() -> None:
    net, x = build(), picture(16, 24)
    hidden = half_of(x)
    expected = torch.where(hidden, net(x * ~hidden), net(x * hidden))
    assert torch.equal(net.in_halves(x, hidden), expected)


@torch.no_grad()
def test_denoises_the_phases_apart() -> None:
    net, x = build(), picture(16, 24)
    clean = net.denoise(x)
    hidden = torch.rand(4, 1, 8, 12, generator=torch.Generator().manual_seed(0)) < 0.5
    assert torch.equal(space_to_batch(clean, 2), net.in_halves(space_to_batch(x, 2), hidden))
    assert not torch.equal(clean, net.denoise(x, generator=torch.Generator().manual_seed(1)))
    assert net.denoise(picture(33, 45), pd=3).shape == (1, 3, 33, 45)


def test_its_weights_are_recognised_also_by_the_authors_names() -> None:
    own = build().state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    assert {"type": "AMSNet", **AMSNet.recognise(shapes)} == {**OPTIONS, "channels": 3}
    theirs = {f"model.dn.branches.0.{name.removeprefix('body.')}": tensor for name, tensor in own.items()}
    assert AMSNet.convert_state(theirs).keys() == own.keys()
    assert AMSNet.convert_state(own) is None
    assert AMSNet.convert_state({"dn.branches.0.conv.weight": own["body.output.weight"]}) is None


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(UserError, match=r"width: 5 is odd, .*; use 6"):
        AMSNet(5)
