from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import golden
from helpers.networks import gradient_norm
from safetensors.torch import load_file
from torch.nn import functional as F

from atbsn.archs import build_arch
from atbsn.archs.aprbsn import APRBSN
from atbsn.archs.atbsn import ATBSN
from atbsn.models import build_model
from atbsn.models.aprrd import APRRDModel
from atbsn.ops.recharge import recharge
from atbsn.utils.errors import UserError

KS = (0, 1, 3, 5, 7, 9)


@pytest.fixture
def expected(assets: Path) -> dict[str, Any]:
    return golden.read_double(assets, "aprrd")


@pytest.fixture
def net(assets: Path) -> APRBSN:
    net = APRBSN(8)
    net.load_state_dict(APRBSN.convert_state(load_file(assets / "atbsn_width8.weights.safetensors")))
    return net.double()


def test_meets_the_authors_loss_and_gradients(net: APRBSN, expected: dict[str, Any]) -> None:
    losses = APRRDModel(net).pair_losses(255 * expected["x"], expected["pair_index"])
    for ours, theirs in (("loss", "loss"), ("rec", "loss_rec"), ("reg", "loss_reg")):
        assert losses[ours].item() / 255 == pytest.approx(expected[theirs].item(), rel=1e-6)
    (losses["loss"] / 255).backward()
    assert gradient_norm(net) == pytest.approx(expected["grad_norm"].item(), rel=1e-5)
    for name in ("nin_C.weight", "unet.intro.conv.weight"):
        torch.testing.assert_close(net.bsn.get_parameter(name).grad, expected[f"grad.{name}"], rtol=1e-5, atol=1e-7)


@torch.no_grad()
def test_meets_the_authors_passes(net: APRBSN, expected: dict[str, Any]) -> None:
    noisy = 255 * expected["x"]
    torch.testing.assert_close(net(noisy, k=9) / 255, expected["fy"], rtol=0, atol=1e-6)
    torch.testing.assert_close(net.denoise(noisy) / 255, expected["y_test"], rtol=0, atol=1e-6)
    family = net.denoise_family(noisy, KS)
    for shift, teacher in enumerate(family):
        torch.testing.assert_close(teacher / 255, expected[f"teacher_s{shift}"], rtol=0, atol=1e-6)
    recharged = recharge(family, noisy, expected["recharge_index"])
    loss = sum(F.l1_loss(255 * expected["fy"], target) for target in recharged) / 255
    assert loss.item() == pytest.approx(expected["loss_rd_of_fy"].item(), rel=1e-6)


@torch.no_grad()
def test_the_network_is_atbsn_in_the_scale_of_0_to_1(net: APRBSN) -> None:
    plain = ATBSN(8).double()
    plain.load_state_dict(net.bsn.state_dict())
    x = torch.rand(1, 3, 32, 64, dtype=torch.float64)
    torch.testing.assert_close(net(255 * x, k=3), 255 * plain(x, k=3))
    torch.testing.assert_close(net.forward_teachers(255 * x, KS), 255 * plain.forward_teachers(x, KS))


def test_the_draw_is_one_of_torchs_generator(net: APRBSN) -> None:
    method, batch = APRRDModel(net), {"noisy": torch.rand(2, 3, 32, 32, dtype=torch.float64) * 255}
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(method.losses(batch, torch.tensor(0.0))["loss"].item())
    assert losses[0] == losses[1] != losses[2]


def test_what_it_says_of_itself() -> None:
    method = build_model({"type": "APRRDModel", "k_train": 7, "k_test": 3}, build_arch({"type": "APRBSN", "width": 2}))
    assert method.metadata()["k_train"] == 7
    assert method.denoise_settings() == {"k": 3}


def test_wrong_networks_and_holes() -> None:
    with pytest.raises(UserError, match=r"network.type: NBSN has no blind spot; use ATBSN, APRBSN"):
        build_model({"type": "APRRDModel"}, build_arch({"type": "NBSN", "width": 2}))
    with pytest.raises(UserError, match=r"model.k_train: 4: k = 4: a blind spot is 0"):
        build_model({"type": "APRRDModel", "k_train": 4}, build_arch({"type": "APRBSN", "width": 2}))


def test_training_is_one_graph() -> None:
    method = APRRDModel(APRBSN(2)).to(memory_format=torch.channels_last)
    torch._dynamo.reset()
    compiled = torch.compile(method, backend="aot_eager", fullgraph=True)
    noisy = torch.rand(1, 3, 32, 32).mul(255).contiguous(memory_format=torch.channels_last)
    losses = compiled({"noisy": noisy}, torch.tensor(0.0))
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    assert gradient_norm(method) > 0
