"""The trainings of AP-BSN, SDAP, Neighbor2Neighbor and Blind2Unblind: the authors' losses and gradients."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import golden
from torch import Tensor

from atbsn.archs import build_arch
from atbsn.archs.apbsn import APBSN, SDAP
from atbsn.archs.plain_unet import VARIANTS, UNet, layer_names
from atbsn.models.apbsn import APBSNModel
from atbsn.models.blind2unblind import Blind2UnblindModel
from atbsn.models.neighbor2neighbor import Neighbor2NeighborModel
from atbsn.models.sdap import SDAPModel
from atbsn.ops.neighbours import draw_neighbours
from atbsn.ops.permutation import draw_permutations
from atbsn.registry import MODELS
from atbsn.registry.build import build
from atbsn.utils.errors import UserError

START, END = torch.tensor(0.0), torch.tensor(1.0)


def epoch(number: int) -> Tensor:
    """The middle of epoch 1 ... 100."""
    return torch.tensor((number - 0.5) / 100)


def unet(assets: Path, stem: str, variant: Any) -> tuple[UNet, dict[str, Tensor]]:
    weights, expected = golden.read(assets, stem)
    net = UNet(variant, 8)
    net.load_state_dict(UNet.convert_state(weights))
    return net, expected


def parts(expected: dict[str, Tensor], prefix: str, variant: str) -> dict[str, Tensor]:
    """The authors' gradients by our names."""
    names = dict(zip(VARIANTS[variant].foreign_names, layer_names(VARIANTS[variant]), strict=True))
    found = {}
    for name, gradient in expected.items():
        if name.startswith(prefix) and "norm" not in name:
            layer, _, kind = name.removeprefix(prefix).rpartition(".")
            found[f"{names[layer]}.{kind}"] = gradient
    assert found
    return found


def check_loss(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected[0], rtol=1e-5, atol=0)


def test_apbsn(assets: Path) -> None:
    weights, expected = golden.read(assets, "apbsn_width16")
    net = APBSN(16)
    net.load_state_dict(weights)
    loss = APBSNModel(net)({"noisy": expected["x"]}, START)["loss"]
    check_loss(loss, expected["loss"])
    tensors = {name.removeprefix("grad."): expected[name] for name in expected if name.startswith("grad.")}
    golden.assert_gradients(net, loss, expected["grad_norm"], tensors)


def test_sdap(assets: Path) -> None:
    weights, expected = golden.read(assets, "sdap_width16")
    net = SDAP(16)
    net.load_state_dict(weights)
    loss = SDAPModel(net).losses({"noisy": expected["x"] * 255}, START, expected["perm"])["loss"]
    check_loss(loss, expected["loss"])
    tensors = {name.removeprefix("grad."): expected[name] for name in expected if name.startswith("grad.")}
    golden.assert_gradients(net, loss, expected["grad_norm"], tensors)


def test_neighbor2neighbor(assets: Path) -> None:
    net, expected = unet(assets, "n2n_width8", "n2n")
    model, batch = Neighbor2NeighborModel(net), {"noisy": expected["x"] * 255}
    for number in (1, 100, 50):
        found = model.losses(batch, epoch(number), expected["index"])
        check_loss(found["loss"], expected[f"loss_epoch{number}"])
    check_loss(found["rec"], expected["loss1"])
    check_loss(found["reg"], expected["loss2_unweighted"])
    assert found["gamma"] == 1
    golden.assert_gradients(net, found["loss"], expected["grad_norm"], parts(expected, "grad.", "n2n"))


@pytest.mark.parametrize(("beta", "progress"), [(2, START), (20, END)])
def test_blind2unblind(assets: Path, beta: int, progress: torch.Tensor) -> None:
    net, expected = unet(assets, "b2u_width8", "b2u")
    found = Blind2UnblindModel(net)({"noisy": expected["x"] * 255}, progress)
    check_loss(found["blind"], expected[f"loss_reg_beta{beta}"])
    check_loss(found["revisible"], expected[f"loss_rev_beta{beta}"])
    assert found["beta"].item() == pytest.approx(beta)
    tensors = parts(expected, f"grad_beta{beta}.", "b2u")
    golden.assert_gradients(net, found["loss"], expected[f"grad_norm_beta{beta}"], tensors)


@pytest.mark.parametrize(("ramp_start", "name"), [(0.8, "beta_fixed"), (0.4, "beta_range")])
def test_beta_of_every_epoch(assets: Path, ramp_start: float, name: str) -> None:
    _, expected = golden.read(assets, "b2u_width8")
    model = Blind2UnblindModel(UNet("b2u", 2), ramp_start=ramp_start)
    found = torch.stack([model.beta(epoch(number)) for number in range(1, 101)])
    torch.testing.assert_close(found.double(), expected[name], rtol=1e-5, atol=0)
    assert model.beta(END).item() == pytest.approx(20)


@pytest.mark.parametrize("variant", ["n2n", "b2u"])
def test_losses_at_full_width(shared: Path, variant: Any) -> None:
    net = UNet(variant)
    names = dict(zip(layer_names(VARIANTS[variant]), VARIANTS[variant].foreign_names, strict=True))
    parts_of = {name: name.rpartition(".") for name in net.state_dict()}
    shapes = {f"{names[parts_of[own][0]]}.{parts_of[own][2]}": shape for own, shape in golden.shapes(net).items()}
    weights, expected = golden.read_full(shared / "golden", f"{variant}_full", shapes)
    net.load_state_dict(UNet.convert_state(weights))
    batch = {"noisy": expected["x"] * 255}
    if variant == "n2n":
        found = Neighbor2NeighborModel(net).losses(batch, epoch(50), expected["index"])
        check_loss(found["loss"], expected["loss_epoch50"])
    else:
        found = Blind2UnblindModel(net)(batch, END)
        check_loss(found["blind"], expected["loss_reg_beta20"])
        check_loss(found["revisible"], expected["loss_rev_beta20"])


MODELS_AND_NETS = {
    "APBSNModel": ({"type": "APBSN", "width": 4}, 60),
    "SDAPModel": ({"type": "SDAP", "width": 4}, 60),
    "Neighbor2NeighborModel": ({"type": "UNet", "variant": "n2n", "width": 4}, 64),
    "Blind2UnblindModel": ({"type": "UNet", "variant": "b2u", "width": 4}, 32),
}


def model_and_batch(name: str) -> tuple[Any, dict[str, torch.Tensor]]:
    network, size = MODELS_AND_NETS[name]
    torch.manual_seed(0)
    model = build(MODELS, {"type": name}, net=build_arch(network))
    return model, {"noisy": torch.rand(2, 3, size, size) * 255}


@pytest.mark.parametrize("name", MODELS_AND_NETS)
def test_a_few_steps_lower_the_loss(name: str) -> None:
    model, batch = model_and_batch(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    history = []
    for _ in range(30):
        loss = model(batch, START)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert sum(history[-5:]) < 0.8 * sum(history[:5])


@pytest.mark.parametrize("name", MODELS_AND_NETS)
def test_all_but_the_loss_are_detached(name: str) -> None:
    model, batch = model_and_batch(name)
    found = model(batch, torch.tensor(0.7))
    assert [key for key, value in found.items() if value.requires_grad] == ["loss"]
    assert all(value.ndim == 0 and value.isfinite() for value in found.values())


@pytest.mark.parametrize("name", MODELS_AND_NETS)
def test_bfloat16_trains_every_weight(name: str) -> None:
    model, batch = model_and_batch(name)

    def run() -> tuple[Tensor, list[Tensor]]:
        torch.manual_seed(1)
        model.zero_grad()
        loss = model(batch, torch.tensor(0.7))["loss"]
        loss.backward()
        return loss, [parameter.grad.clone() for parameter in model.parameters()]

    exact, gradients = run()
    with torch.autocast("cpu", torch.bfloat16):
        found, rough = run()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=0.02)
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    difference = torch.stack([(a - b).norm() for a, b in zip(gradients, rough, strict=True)]).norm()
    assert difference < 0.2 * norm
    assert all(gradient.isfinite().all() for gradient in rough)


@pytest.mark.parametrize("name", MODELS_AND_NETS)
def test_what_it_is_trained_for_is_what_its_network_takes(name: str) -> None:
    model, batch = model_and_batch(name)
    settings = model.denoise_settings()
    type(model.net).check_denoise(settings)
    with torch.no_grad():
        assert model.net.denoise(batch["noisy"], **settings).isfinite().all()


@pytest.mark.parametrize(("name", "draw"), [("SDAPModel", draw_permutations), ("Neighbor2NeighborModel", None)])
def test_draws_come_from_torchs_generator(name: str, draw: Callable[..., Any] | None) -> None:
    model, batch = model_and_batch(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 2  # a new network says the same everywhere, and then no draw matters
    torch.manual_seed(5)
    first = model(batch, START)["loss"]
    assert not torch.equal(model(batch, START)["loss"], first)
    torch.manual_seed(5)
    assert torch.equal(model(batch, START)["loss"], first)
    torch.manual_seed(5)
    given = draw(batch["noisy"], 5) if draw else draw_neighbours(batch["noisy"])
    assert torch.equal(model.losses(batch, START, given)["loss"], first)


@pytest.mark.parametrize(
    ("name", "options", "remedy"),
    [
        ("APBSNModel", {"type": "SDAP", "width": 4}, "use APBSN"),
        ("SDAPModel", {"type": "APBSN", "width": 4}, "use SDAP"),
        ("Neighbor2NeighborModel", {"type": "ATBSN", "width": 2}, "use an ordinary network, such as UNet"),
        ("Blind2UnblindModel", {"type": "StudentA"}, "use UNet"),
    ],
)
def test_another_network_is_refused(name: str, options: dict[str, Any], remedy: str) -> None:
    with pytest.raises(UserError, match=remedy):
        build(MODELS, {"type": name}, net=build_arch(options))


def test_patches_must_fit() -> None:
    arguments = {"pd_train": 5, "stride": 4}
    assert APBSNModel.patch_multiple(APBSN, arguments) == 5
    assert SDAPModel.patch_multiple(SDAP, arguments) == 4
    assert Neighbor2NeighborModel.patch_multiple(UNet, {}) == 64
    assert Blind2UnblindModel.patch_multiple(UNet, {}) == 32
