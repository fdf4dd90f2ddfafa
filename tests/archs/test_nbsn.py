from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import golden
from helpers.networks import gradient_norm
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from atbsn.archs.nbsn import NBSN
from atbsn.archs.tmbsn import TMBSN
from atbsn.ops.recharge import recharge


def loaded(net: torch.nn.Module, assets: Path, stem: str) -> Any:
    net.load_state_dict(load_file(assets / f"{stem}.weights.safetensors"))
    return net.double()


@torch.no_grad()
def check_outputs(net: NBSN, expected: dict[str, Tensor]) -> None:
    for x, y in (("x", "y"), ("x_rect", "y_rect")):
        torch.testing.assert_close(net(255 * expected[x]) / 255, expected[y], rtol=0, atol=1e-6)


def test_meets_the_authors_outputs(assets: Path) -> None:
    check_outputs(loaded(NBSN(8), assets, "nbsn102_width8"), golden.read_double(assets, "nbsn102_width8"))


def test_meets_the_authors_outputs_at_full_width(shared: Path) -> None:
    net = NBSN()
    golden.fill(net, shared / "golden", "nbsn102_full")
    check_outputs(net.double(), golden.read_double(shared / "golden", "nbsn102_full"))


def test_meets_the_authors_recharged_distillation(assets: Path) -> None:
    net, teacher = loaded(NBSN(8), assets, "nbsn102_width8"), loaded(TMBSN(8, 2), assets, "tmbsn_width8")
    expected = golden.read_double(assets, "nbsn102_width8")
    noisy = 255 * expected["x"]
    with torch.no_grad():
        targets = teacher.denoise_family(noisy, (2, 3, 4, 5, 6))
    for k, target in zip((2, 3, 4, 5, 6), targets, strict=True):
        torch.testing.assert_close(target / 255, expected[f"teacher_s{k}"], rtol=0, atol=1e-6)
    recharged = recharge(targets, noisy, expected["recharge_index"])
    torch.testing.assert_close(recharged[0] / 255, expected["recharged_s2"], rtol=0, atol=1e-6)
    output = net(noisy)
    plain = sum(F.l1_loss(output, target) for target in targets) / 255
    loss = sum(F.l1_loss(output, target) for target in recharged) / 255
    loss.backward()
    assert plain.item() == pytest.approx(expected["loss_plain"].item(), rel=1e-6)
    assert loss.item() == pytest.approx(expected["loss_recharged"].item(), rel=1e-6)
    assert gradient_norm(net) == pytest.approx(expected["grad_norm"].item(), rel=1e-5)
    for name in ("dec1_1.weight", "enc1.conv.weight"):
        torch.testing.assert_close(net.get_parameter(name).grad, expected[f"grad.{name}"], rtol=1e-5, atol=1e-8)


def test_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in NBSN().parameters()) == 1_021_107


def test_recognised_from_its_keys() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in NBSN(6).state_dict().items()}
    assert NBSN.recognise(shapes) == {"width": 6, "channels": 3}
    assert NBSN.recognise({"enc1.conv.conv.weight": (48, 3, 3, 3)}) is None


@pytest.mark.parametrize("size", [(1, 1), (7, 45), (33, 32)])
@torch.no_grad()
def test_any_size(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = NBSN(4).double()
    x = torch.rand(2, 3, *size, dtype=torch.float64) * 255
    rows, columns = (reflected(side) for side in size)
    whole = net(x[..., rows, :][..., columns])
    torch.testing.assert_close(net(x), whole[..., : size[0], : size[1]])


def reflected(size: int) -> list[int]:
    """Indices 0 ... size-1, size-2 ... 0, 1 ... up to the next multiple of 32."""
    there_and_back = [*range(size), *range(size - 2, 0, -1)]
    length = -(-size // 32) * 32
    return (there_and_back * length)[:length]


@torch.no_grad()
def test_the_folded_layer_is_the_plain_one() -> None:
    """On the CPU the largest layer does the up-sampling itself."""
    torch.manual_seed(0)
    net, x = NBSN(4).double(), torch.rand(1, 3, 64, 32, dtype=torch.float64) * 255
    expected = net(x)
    layer: Any = net.dec1_2
    layer.upsampled = lambda x, skip: net.dec1_2(torch.cat((F.interpolate(x, scale_factor=2.0), skip), dim=1))
    torch.testing.assert_close(net(x), expected)


def test_training_is_one_graph_in_bfloat16() -> None:
    net = NBSN(4).to(memory_format=torch.channels_last)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    x = torch.rand(2, 3, 32, 32).mul(255).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        output = compiled(x)
    assert output.dtype == torch.float32
    output.mean().backward()
    torch.testing.assert_close(output, net(x), rtol=0, atol=0.03 * net(x).abs().max().item())
