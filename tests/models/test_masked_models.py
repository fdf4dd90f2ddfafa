"""Noise2Void, structured Noise2Void and AMSNet, which hide pixels of their input, and TBSN."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from atbsn.archs import build_arch
from atbsn.archs.amsnet import AMSNet
from atbsn.models import build_model
from atbsn.models.amsnet import AMSNetModel
from atbsn.models.base import Model
from atbsn.models.noise2void import Noise2VoidModel
from atbsn.ops.masked_pixels import draw_masked, draw_sources, mask_of
from atbsn.ops.subsample import space_to_batch
from atbsn.utils.errors import UserError

START = torch.tensor(0.0)
NETWORKS = {
    "NBSN": {"type": "NBSN", "width": 4},
    "UNet": {"type": "UNet", "width": 4},
    "PhotoNet": {"type": "PhotoNet", "widths": [8, 8], "blocks": 1, "middle_blocks": 1},
}
AMSNET = {"type": "AMSNet", "width": 4, "num_blocks": [1, 1, 1, 1], "num_refinement": 1}
TBSN = {"type": "TBSN", "width": 4, "num_blocks": [1, 1, 1], "num_refinement": 1}


def noise2void(network: str = "UNet", **arguments: object) -> Noise2VoidModel:
    torch.manual_seed(0)
    model = build_model({"type": "Noise2VoidModel", **arguments}, build_arch(NETWORKS[network]))
    assert isinstance(model, Noise2VoidModel)
    return model


def noisy(channels: int = 3, size: int = 64) -> Tensor:
    """A ramp with noise."""
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(60, 190, size).expand(2, channels, size, size)
    return ramp + 10 * torch.randn(ramp.shape, generator=generator)


def test_the_published_share_is_masked() -> None:
    torch.manual_seed(0)
    model, batch = noise2void(), noisy()
    share = torch.stack([mask_of(batch, draw_masked(batch, model.side)).float().mean() for _ in range(300)]).mean()
    assert 100 * share.item() == pytest.approx(0.198, abs=0.02)


@pytest.mark.parametrize("axis", [None, "across", "down"])
def test_the_network_is_not_shown_what_it_has_to_give(axis: str | None) -> None:
    """In the gradient: a masked pixel's own value, nor with ``axis`` those in line with it, reaches its input."""
    torch.manual_seed(0)
    model = noise2void(centre=False, axis=axis, percent=1.0)
    batch = noisy()
    batch[:, :, 0, :2] = torch.tensor([0.0, 255.0])  # the least and the largest, which random values lie between
    batch.requires_grad_()
    places = torch.tensor([[20 * 64 + 30], [40 * 64 + 11]])
    given = model.masked(batch, places, draw_sources(batch, places, 5, centre=False))
    (gradient,) = torch.autograd.grad(given.sum(), batch)
    assert not gradient[0, :, 20, 30].any() and not gradient[1, :, 40, 11].any()
    lines = {
        "across": ([20] * 10, [25, 26, 27, 28, 29, 31, 32, 33, 34, 35]),
        "down": ([15, 16, 17, 18, 19, 21, 22, 23, 24, 25], [30] * 10),
    }
    if axis is None:
        assert torch.equal(given != batch, mask_of(batch, places).expand_as(batch))
    else:
        rows, columns = lines[axis]
        assert (given[0, :, rows, columns] != batch[0, :, rows, columns]).all()
        assert int((given != batch).any(dim=1).sum()) == 22


@pytest.mark.parametrize("network", NETWORKS)
def test_the_loss_is_that_of_the_masked_pixels(network: str) -> None:
    model, batch = noise2void(network), noisy()
    torch.manual_seed(3)
    places = draw_masked(batch, model.side)
    sources = draw_sources(batch, places, 5, centre=True)
    loss = model.loss_at(batch, places, sources)["loss"]
    error = (model.net(model.masked(batch, places, sources)) - batch) / 255
    chosen = mask_of(batch, places).expand_as(error)
    torch.testing.assert_close(loss, error[chosen].square().mean())
    torch.manual_seed(3)
    torch.testing.assert_close(model({"noisy": batch}, START)["loss"], loss)


@pytest.mark.parametrize(
    "build",
    [
        lambda: noise2void(percent=4.0),
        lambda: noise2void(percent=4.0, axis="across"),
        lambda: build_model({"type": "AMSNetModel", "pd_train": 2}, build_arch(AMSNET)),
        lambda: build_model({"type": "ReconstructionModel", "pd_train": 2}, build_arch(TBSN)),
    ],
    ids=["Noise2Void", "structured", "AMSNet", "TBSN"],
)
def test_a_few_steps_lower_the_loss(build: Callable[[], Model]) -> None:
    torch.manual_seed(0)
    model, batch = build(), noisy()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    history = []
    for _ in range(30):
        loss = model({"noisy": batch}, START)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert sum(history[-5:]) < 0.8 * sum(history[:5])


@pytest.mark.parametrize("channels", [1, 4, 16])
def test_other_channels(channels: int) -> None:
    for network, model in (
        ({**NETWORKS["PhotoNet"], "channels": channels}, {"type": "Noise2VoidModel", "axis": "down"}),
        ({**AMSNET, "channels": channels}, {"type": "AMSNetModel", "pd_train": 2}),
        (
            {**TBSN, "channels": channels},
            {"type": "ReconstructionModel", "pd_train": 2},
        ),
    ):
        loss = build_model(model, build_arch(network))({"noisy": noisy(channels)}, START)["loss"]
        loss.backward()
        assert loss.isfinite()


def test_amsnets_loss_is_that_of_the_hidden_pixels() -> None:
    torch.manual_seed(0)
    net, batch = build_arch(AMSNET), noisy(size=80)
    model = AMSNetModel(net)
    phases = space_to_batch(batch, 5)
    hidden = torch.rand(50, 1, 16, 16) < 0.5
    loss = model.losses({"noisy": batch}, START, hidden)["loss"]
    chosen = hidden.expand_as(phases)
    torch.testing.assert_close(loss, (net(phases * ~hidden) - phases).abs()[chosen].mean())
    assert AMSNetModel.patch_multiple(AMSNet, {"pd_train": 5}) == 40
    assert model.denoise_settings() == {"pd": 2}


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match="StudentA has no pixels hidden from it; use AMSNet"):
        build_model({"type": "AMSNetModel"}, build_arch({"type": "StudentA"}))
    with pytest.raises(UserError, match="ATBSN has a blind spot; use an ordinary network"):
        build_model({"type": "Noise2VoidModel"}, build_arch({"type": "ATBSN", "width": 2}))
    with pytest.raises(UserError, match=r"model\.span: 4 is even and has no middle; use 5"):
        noise2void(span=4)
