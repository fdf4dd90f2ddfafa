from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from atbsn.archs import build_arch
from atbsn.archs.nsp import NSP
from atbsn.models import build_model
from atbsn.ops.sub_pixels import draw_order, split_cells
from atbsn.utils.errors import UserError


def build(**arguments: Any) -> NSP:
    torch.manual_seed(0)
    net = build_arch({"type": "NSP", "width": 8, "num_modules": 2, **arguments}).eval()
    assert isinstance(net, NSP)
    return net


def test_the_loss_is_the_mean_over_21_inputs() -> None:
    net = build().double()
    method = build_model({"type": "NSPModel"}, net)
    noisy = torch.rand(2, 3, 20, 30, dtype=torch.float64) * 255
    order = draw_order(noisy)
    target, inputs = split_cells(noisy, order)
    each = torch.stack([F.l1_loss(net(picture), target) for picture in inputs])
    torch.testing.assert_close(method.order_loss(noisy, order), each.mean())
    torch.manual_seed(3)
    loss = method.losses({"noisy": noisy}, torch.tensor(0.0))["loss"]
    torch.manual_seed(3)
    assert torch.equal(loss, method.order_loss(noisy, draw_order(noisy)))


@pytest.mark.parametrize("size", [(20, 30), (33, 46), (1, 2)])
@torch.no_grad()
def test_denoises_with_the_mean_of_what_the_phases_predict(size: tuple[int, int]) -> None:
    net = build().double()
    x = torch.rand(2, 3, *size, dtype=torch.float64) * 255
    height, width = size
    even = F.pad(x, (0, width % 2, 0, height % 2), mode="reflect" if min(size) > 1 else "replicate")
    phases = [net(even[:, :, a::2, b::2]) for a in (0, 1) for b in (0, 1)]
    expected = torch.stack(phases).mean(dim=0)[..., :height, :width]
    torch.testing.assert_close(net.denoise(x), expected)

    def halves(function: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        return torch.cat([function(half) for half in image.chunk(2)])

    torch.testing.assert_close(net.denoise(x, halves), expected)


def test_recognised_from_its_keys() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}
    assert NSP.recognise(shapes) == {"width": 8, "num_modules": 2}
    assert NSP.recognise({"tail.7.weight": (3, 4, 1, 1)}) is None


def test_wrong_network_and_patch() -> None:
    with pytest.raises(UserError, match=r"network.type: NBSN does not put out twice the size; use NSP"):
        build_model({"type": "NSPModel"}, build_arch({"type": "NBSN", "width": 2}))


def test_training_is_one_graph_in_bfloat16() -> None:
    method = build_model({"type": "NSPModel"}, build()).to(memory_format=torch.channels_last)
    torch._dynamo.reset()
    compiled = torch.compile(method, backend="aot_eager", fullgraph=True)
    noisy = torch.rand(1, 3, 20, 20).mul(255).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        assert method.net(noisy).dtype == torch.float32
        loss = compiled({"noisy": noisy}, torch.tensor(0.0))["loss"]
    loss.backward()
    assert loss.isfinite()
