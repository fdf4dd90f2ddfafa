"""What networks do only on a GPU is what they do on a CPU: tried here on a CPU, in double precision, gradients too."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from atbsn.archs import atbsn, build_arch, cbsn, dbsn, unet
from atbsn.ops.dilation import in_phases, through_dilated


def results(net, function):
    """The output, and the gradient of its mean square for every weight."""
    net.zero_grad()
    output = function()
    output.square().mean().backward()
    return output.detach(), [each.grad.clone() for each in net.parameters() if each.grad is not None]


def assert_same(one, other):
    torch.testing.assert_close(one[0], other[0])
    assert len(one[1]) == len(other[1]) > 0
    for gradient, again in zip(one[1], other[1], strict=True):
        torch.testing.assert_close(gradient, again)


def picture(side, batch=2):
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 255


@pytest.mark.parametrize(("name", "how"), [("ATBSN", {"k": 9}), ("StudentC", {})])
def test_channels_of_zeros_change_nothing(name, how, monkeypatch):
    torch.manual_seed(0)
    net, x = build_arch({"type": name, "width": 3}).double(), picture(32)
    net.unet.dec1.last = False  # the CPU's own way to up-sample
    seen = []
    net.unet.intro.conv.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    expected = results(net, lambda: net(x, **how))
    assert seen == [3]
    monkeypatch.setattr(unet, "channel_multiple", lambda device: 8)
    counted = []
    original = unet.F.conv2d
    monkeypatch.setattr(
        unet,
        "F",
        SimpleNamespace(
            **{**vars(unet.F), "conv2d": lambda x, *a, **k: (counted.append(x.shape[1]), original(x, *a, **k))[1]}
        ),
    )
    assert_same(results(net, lambda: net(x, **how)), expected)
    assert counted == [8, 6 + 8]


def test_pooling_below_zeros(monkeypatch):
    torch.manual_seed(0)
    net, x = build_arch({"type": "ATBSN", "width": 3}).double(), picture(64)
    expected = results(net, lambda: net(x, k=5))
    monkeypatch.setattr(unet, "pools_below_zeros", lambda device: True)
    monkeypatch.setattr(unet, "half_plane_pool", None)
    assert_same(results(net, lambda: net(x, k=5)), expected)


def test_heads_of_all_holes_at_once(monkeypatch):
    torch.manual_seed(0)
    net, x, ks = build_arch({"type": "ATBSN", "width": 2}).double(), picture(32), (0, 1, 5, 11)
    expected = results(net, lambda: net.forward_teachers(x, ks))
    batches = []
    net.nin_B.register_forward_pre_hook(lambda _, given: batches.append(len(given[0])))
    monkeypatch.setattr(atbsn, "_together", lambda shifts, device: [shifts])
    assert_same(results(net, lambda: net.forward_teachers(x, ks)), expected)
    assert set(batches) == {len(ks) * 2}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dilation", [2, 3])
@pytest.mark.parametrize("module", [cbsn.CBSNModule, lambda width, d: dbsn.DBSNModule(width, d, nn.ReLU)])
def test_dilated_chains_in_phases(module, dilation, memory_format):
    torch.manual_seed(0)
    chain = nn.Sequential(*(module(4, dilation) for _ in range(3))).double().to(memory_format=memory_format)
    x = torch.randn(2, 4, 12, 18, dtype=torch.float64).contiguous(memory_format=memory_format)
    expected = results(chain, lambda: through_dilated(chain, x, dilation))
    found = results(chain, lambda: in_phases(chain, x, dilation))
    assert_same(found, expected)
    assert found[0].is_contiguous(memory_format=memory_format)
