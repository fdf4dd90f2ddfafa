from pathlib import Path

import pytest
import torch
from helpers import golden
from helpers.networks import assert_draws_are_those_of_the_generator, gradient_norm, influence, picture
from safetensors.torch import load_file
from torch import Tensor, nn

from atbsn.archs.puca import PUCA, PUCABlock


def build(width: int = 4) -> PUCA:
    torch.manual_seed(0)
    return PUCA(width, enc_blocks=(1, 2), middle_blocks=1, dec_blocks=(2, 1)).eval()


# --- the published network ---------------------------------------------------------------------------------


def test_meets_the_authors_outputs_and_gradients(assets: Path) -> None:
    net = PUCA(8, enc_blocks=(1, 2), middle_blocks=1, dec_blocks=(2, 1))
    net.load_state_dict(PUCA.convert_state(load_file(assets / "puca_width8.weights.safetensors")))
    expected = golden.read_double(assets, "puca_width8")
    check(net.double(), expected)
    for name in ("tail.3.weight", "encoders.0.0.beta"):
        gradient = net.get_parameter(name).grad
        torch.testing.assert_close(gradient, expected[f"grad.bsn.{name}"], rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_meets_the_authors_outputs_at_full_width(shared: Path) -> None:
    net = PUCA()
    golden.fill(net, shared / "golden", "puca_full", prefix="bsn.")
    check(net.double(), golden.read_double(shared / "golden", "puca_full"))


def check(net: PUCA, expected: dict[str, Tensor]) -> None:
    x = expected["x"]
    with torch.no_grad():
        once = net.denoise(x, refine=0)
        refined = net.refine(x, once, expected["r3_mask"])
        torch.testing.assert_close(once, expected["y_test"], rtol=0, atol=5e-5)
        torch.testing.assert_close(net.forward_whole(x), expected["y_refine"], rtol=0, atol=5e-5)
        torch.testing.assert_close(refined, expected["y_r3"], rtol=0, atol=5e-5)
    output = net(x)
    torch.testing.assert_close(output, expected["y_train"], rtol=0, atol=5e-5)
    loss = (output - x).abs().mean()
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"].item(), rel=1e-6)
    assert gradient_norm(net) == pytest.approx(expected["grad_norm"].item(), rel=1e-5)


def test_number_of_parameters() -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in PUCA().parameters()) == 12_783_491


def test_an_authors_file_is_recognised() -> None:
    own = build().state_dict()
    state = PUCA.convert_state(
        {f"bsn.{name}": t for name, t in own.items()} | {"bsn.masked_conv.0.mask": own["final.bias"]}
    )
    assert state.keys() == own.keys()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert PUCA.recognise(shapes) == {"width": 4, "enc_blocks": [1, 2], "middle_blocks": 1, "dec_blocks": [2, 1]}
    assert PUCA.convert_state({"bsn.intro.weight": torch.zeros(1)}) is None


# --- blindness ---------------------------------------------------------------------------------------------


class Frozen(nn.Module):
    """Channel weights that do not depend on the picture."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linspace(0.5, 1.5, x.shape[1], dtype=x.dtype).view(-1, 1, 1)


PASSES = {
    "training": lambda net, x: net(x),
    "test": lambda net, x: net.forward_strided(x, 2),
    "refinement": lambda net, x: net.forward_whole(x),
}


@pytest.mark.parametrize("which", PASSES)
def test_blind_to_the_pixel_itself_but_for_its_channel_attention(which: str) -> None:
    net, x = build().double(), picture(40, 32, batch=3).requires_grad_()
    places = [(19, 14), (0, 0), (39, 31), (4, 7), (22, 1)]
    output = PASSES[which](net, x)
    for row, column in places:
        seen = influence(output, x, row, column)
        assert 0 < seen[row, column] < 1e-2 * seen.max()
    for module in net.modules():
        if isinstance(module, PUCABlock):
            module.sca = nn.Sequential(Frozen())
    output = PASSES[which](net, x)
    for row, column in places:
        seen = influence(output, x, row, column)
        assert seen[row, column] == 0
        assert (seen > 0).sum() > 20


# --- denoising ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(40, 64), (33, 46), (1, 9)])
@torch.no_grad()
def test_any_size(size: tuple[int, int]) -> None:
    net, x = build(), picture(*size, dtype=torch.float32)
    assert net(x).shape == x.shape
    assert net.denoise(x, refine=1).shape == x.shape


def test_the_same_draws_give_the_same_picture() -> None:
    x = picture(24, 32)
    assert_draws_are_those_of_the_generator(build().double(), x, [x.shape] * 3)


def test_training_is_one_graph_in_bfloat16() -> None:
    net = build().to(memory_format=torch.channels_last)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    x = picture(32, 32, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        output = compiled(x)
    assert output.dtype == torch.float32
    output.mean().backward()
    with torch.no_grad():
        torch.testing.assert_close(output, net(x), rtol=0, atol=0.05 * net(x).abs().max().item())
