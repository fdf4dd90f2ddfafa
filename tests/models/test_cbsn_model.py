"""C-BSN's training method against its equations, and what it must survive."""

import pytest
import torch
from torch import Tensor

from atbsn.archs import build_arch
from atbsn.archs.cbsn import CBSN
from atbsn.models.cbsn import CBSNModel
from atbsn.ops.subsample import draw_positions
from atbsn.registry import MODELS
from atbsn.registry.build import build, with_defaults
from atbsn.utils.errors import UserError

BATCH, PATCH = 2, 30
SCALARS = ("loss", "blind", "self", "inv", "w")


@pytest.fixture
def model() -> CBSNModel:
    torch.manual_seed(0)
    return CBSNModel(CBSN(width=4))


@pytest.fixture
def batch() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"noisy": torch.rand(BATCH, 3, PATCH, PATCH) * torch.tensor([255.0, 90.0, 20.0]).view(3, 1, 1)}


def losses(model: CBSNModel, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
    torch.manual_seed(2)
    return model(batch, torch.tensor(progress))


def by_the_equations(model: CBSNModel, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
    """The losses pixel by pixel, sub-image by sub-image, with nothing shared."""
    y = batch["noisy"] / 255
    std = y.std(dim=(2, 3), keepdim=True, correction=0).clamp(min=1 / PATCH)
    x = (y - y.mean(dim=(2, 3), keepdim=True)) / std
    blind = torch.zeros_like(x)
    for row in range(5):
        for column in range(5):
            blind[..., row::5, column::5] = model.net(x[..., row::5, column::5], blind=True)
    full = model.net(x, blind=False)
    torch.manual_seed(2)
    positions = draw_positions(x, 2).squeeze(1)
    small_x, small_full = (
        torch.stack([t[n].flatten(1)[:, positions[n]] for n in range(BATCH)]).view(BATCH, 3, 15, 15) for t in (x, full)
    )
    target = model.net(small_x, blind=True).detach()
    terms = {
        "blind": (blind - x).abs().mean(),
        "self": (full - x).abs().mean(),
        "inv": (small_full - target).abs().mean(),
        "w": torch.tensor(min(progress / 0.4, 1.0)),
    }
    return {"loss": terms["blind"] + terms["w"] * (terms["self"] + 2 * terms["inv"]), **terms}


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.4, 1.0])
def test_losses_and_gradients_are_those_of_the_equations(
    model: CBSNModel, batch: dict[str, Tensor], progress: float
) -> None:
    found = losses(model, batch, progress)
    assert tuple(found) == SCALARS
    found["loss"].backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    expected = by_the_equations(model, batch, progress)
    expected["loss"].backward()
    for name in SCALARS:
        torch.testing.assert_close(found[name], expected[name])
    for found_gradient, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(found_gradient, parameter.grad, rtol=1e-3, atol=1e-5)


def test_all_but_the_loss_are_detached(model: CBSNModel, batch: dict[str, Tensor]) -> None:
    found = losses(model, batch, 0.5)
    assert [name for name in SCALARS if found[name].requires_grad] == ["loss"]


@pytest.mark.parametrize(("progress", "w"), [(0.0, 0.0), (0.1, 0.25), (0.2, 0.5), (0.4, 1.0), (0.9, 1.0)])
def test_w_reaches_one_after_the_ramp(model: CBSNModel, batch: dict[str, Tensor], progress: float, w: float) -> None:
    assert losses(model, batch, progress)["w"].item() == pytest.approx(w)


def test_the_draw_is_reproducible_and_changes(model: CBSNModel, batch: dict[str, Tensor]) -> None:
    first = losses(model, batch, 1.0)["inv"]
    again = model(batch, torch.tensor(1.0))["inv"]
    assert not torch.equal(first, again)
    assert torch.equal(first, losses(model, batch, 1.0)["inv"])


def test_a_constant_patch_has_finite_losses_and_gradients(model: CBSNModel) -> None:
    noisy = torch.full((1, 3, 20, 20), 128.0, requires_grad=True)
    found = losses(model, {"noisy": noisy}, 0.5)
    assert all(value.isfinite() for value in found.values())
    found["loss"].backward()
    assert noisy.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_bf16_trains_every_weight(model: CBSNModel, batch: dict[str, Tensor]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(model, batch, 1.0)
    assert all(value.dtype == torch.float32 for value in found.values())
    found["loss"].backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    exact = losses(model, batch, 1.0)
    exact["loss"].backward()
    assert found["loss"].item() == pytest.approx(exact["loss"].item(), rel=0.02)
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        assert (gradient - parameter.grad).norm() < 0.5 * parameter.grad.norm()


def test_a_weight_that_makes_the_noisy_pixel_the_optimum_is_refused() -> None:
    with pytest.raises(UserError, match=r"weight_inv: 1\.0: .*greater than 1"):
        build(MODELS, {"type": "CBSNModel", "weight_inv": 1.0}, net=CBSN(width=4))


@pytest.mark.parametrize("ramp", [0.0, 1.5, -0.1])
def test_a_ramp_is_a_part_of_the_run(ramp: float) -> None:
    with pytest.raises(UserError, match="ramp"):
        build(MODELS, {"type": "CBSNModel", "ramp": ramp}, net=CBSN(width=4))


def test_a_patch_that_does_not_divide_is_refused(model: CBSNModel) -> None:
    assert CBSNModel.patch_multiple(CBSN, with_defaults(CBSNModel, {})) == 10
    assert CBSNModel.patch_multiple(CBSN, with_defaults(CBSNModel, {"stride_train": 4})) == 4
    for size, stride in ((128, 5), (125, 2)):
        with pytest.raises(UserError, match=f"{size} x {size} .* stride {stride}"):
            losses(model, {"noisy": torch.rand(1, 3, size, size)}, 0.0)


def test_another_network_is_refused() -> None:
    with pytest.raises(UserError, match="StudentA cannot switch its blind spot off; use CBSN"):
        CBSNModel(build_arch({"type": "StudentA"}))


def test_a_few_steps_lower_the_loss(model: CBSNModel, batch: dict[str, Tensor]) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    history = []
    for _ in range(40):
        loss = model(batch, torch.tensor(1.0))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert sum(history[-5:]) < 0.8 * sum(history[:5])
