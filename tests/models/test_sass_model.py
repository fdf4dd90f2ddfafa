"""SASS's three stages: the authors' losses and gradients, what is frozen, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import golden
from safetensors.torch import load_file, save_file
from torch import Tensor

from atbsn.archs import build_arch
from atbsn.archs.atbsn import ATBSN
from atbsn.archs.plain_unet import VARIANTS, UNet, layer_names
from atbsn.archs.sass import LAN, atbsn_state
from atbsn.archs.weights import save_weights
from atbsn.models.sass import SASSModel
from atbsn.ops.texture import texture_weight
from atbsn.utils.errors import UserError

PROGRESS = torch.tensor(0.5)
UNET_NAMES = dict(zip(VARIANTS["sass"].foreign_names, layer_names(VARIANTS["sass"]), strict=True))


def save(net: torch.nn.Module, path: Path) -> str:
    save_weights(path, net.state_dict(), {})
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """The weights of the two earlier stages."""
    torch.manual_seed(0)
    return {"bnn": save(ATBSN(4), tmp_path / "bnn.pth"), "lan": save(LAN(), tmp_path / "lan.pth")}


def authors_unet(weights: dict[str, Tensor]) -> UNet:
    net = UNet("sass", 8)
    net.load_state_dict(UNet.convert_state(weights))
    return net


class Saying(LAN):
    """A local network whose output is known."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, noisy: Tensor) -> Tensor:
        return self.output


def test_stage_1_is_the_authors(assets: Path) -> None:
    weights, expected = golden.read(assets, "sass_bnn_width8")
    net = ATBSN(8)
    net.load_state_dict(atbsn_state(weights))
    model = SASSModel(net, stage=1)
    loss = model({"noisy": expected["x"]}, PROGRESS)["loss"]
    torch.testing.assert_close(loss.double(), expected["loss"][0], rtol=1e-5, atol=0)
    assert model.denoise_settings() == {"k": 9}


def test_stage_2_is_the_authors(assets: Path, tmp_path: Path) -> None:
    """The target of their file is what the width-8 BNN makes of the picture."""
    bnn, _ = golden.read(assets, "sass_bnn_width8")
    save_file(atbsn_state(bnn), tmp_path / "bnn.safetensors")
    weights, expected = golden.read(assets, "sass_lan")
    net = LAN()
    net.load_state_dict(weights)
    model = SASSModel(net, stage=2, bnn=str(tmp_path / "bnn.safetensors"))
    torch.testing.assert_close(model.bnn(expected["x"], k=9), expected["target"], rtol=0, atol=1e-3)
    loss = model({"noisy": expected["x"]}, PROGRESS)["loss"]
    torch.testing.assert_close(loss.double(), expected["loss"][0], rtol=1e-5, atol=0)
    parts = {name.removeprefix("grad."): expected[name] for name in expected if name.startswith("grad.")}
    golden.assert_gradients(net, loss, expected["grad_norm"], parts)


def test_stage_3_is_the_authors(assets: Path, tmp_path: Path) -> None:
    bnn, _ = golden.read(assets, "sass_bnn_width8")
    lan, _ = golden.read(assets, "sass_lan")
    save_file(atbsn_state(bnn), tmp_path / "bnn.safetensors")
    save_file(lan, tmp_path / "lan.safetensors")
    weights, expected = golden.read(assets, "sass_unet_width8")
    net = authors_unet(weights)
    model = SASSModel(net, 3, str(tmp_path / "bnn.safetensors"), str(tmp_path / "lan.safetensors"))
    x = expected["x"]
    torch.testing.assert_close(model.bnn(x, k=9), expected["bnn"], rtol=0, atol=1e-3)
    torch.testing.assert_close(model.lan(x), expected["lan"], rtol=0, atol=1e-3)
    torch.testing.assert_close(texture_weight(model.bnn(x, k=9)), expected["alpha"], rtol=0, atol=1e-4)
    found = model({"noisy": x}, PROGRESS)
    torch.testing.assert_close(found["loss"].double(), expected["loss"][0], rtol=1e-5, atol=0)
    torch.testing.assert_close(found["flat"] + found["texture"], found["loss"].detach())
    parts = {}
    for name, gradient in expected.items():
        if name.startswith("grad."):
            layer, _, kind = name.removeprefix("grad.").rpartition(".")
            parts[f"{UNET_NAMES[layer]}.{kind}"] = gradient
    golden.assert_gradients(net, found["loss"], expected["grad_norm"], parts)
    assert model.denoise_settings() == {}


def test_the_loss_of_the_authors_on_flat_and_textured_columns(
    assets: Path, files: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_file(assets / "sass_alpha.io.safetensors")
    model = SASSModel(UNet("sass", 2), 3, **files)
    for helper, key in (("bnn", "bnn"), ("lan", "lan"), ("net", "unet")):
        monkeypatch.setattr(getattr(model, helper), "forward", lambda *_, key=key, **__: expected[key])
    loss = model({"noisy": torch.zeros_like(expected["bnn"])}, PROGRESS)["loss"]
    torch.testing.assert_close(loss.double(), expected["loss"][0], rtol=1e-5, atol=0)


def test_helpers_are_neither_trained_nor_saved(files: dict[str, Any]) -> None:
    model = SASSModel(UNet("sass", 2), 3, **files)
    assert all(name.startswith("net.") for name, _ in model.named_parameters())
    assert not any(parameter.requires_grad for parameter in (*model.bnn.parameters(), *model.lan.parameters()))
    assert not model.bnn.training and not model.lan.training
    assert len(model.frozen_sha256()) == 2
    model.double()
    assert next(model.bnn.parameters()).dtype == next(model.lan.parameters()).dtype == torch.float64
    before = [parameter.clone() for parameter in model.bnn.parameters()]
    model({"noisy": torch.rand(1, 3, 64, 64).double() * 255}, PROGRESS)["loss"].backward()
    assert all(parameter.grad is None for parameter in (*model.bnn.parameters(), *model.lan.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(before, model.bnn.parameters(), strict=True))


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_few_steps_lower_the_loss(stage: Any, files: dict[str, Any]) -> None:
    torch.manual_seed(0)
    networks: dict[int, dict[str, Any]] = {
        1: {"type": "ATBSN", "width": 4},
        2: {"type": "LAN"},
        3: {"type": "UNet", "variant": "sass", "width": 4},
    }
    needed = {name: path for name, path in files.items() if stage > 1 + (name == "lan")}
    model = SASSModel(build_arch(networks[stage]), stage, **needed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    batch, history = {"noisy": torch.rand(1, 3, 64, 64) * 255}, []
    for _ in range(30):
        loss = model(batch, PROGRESS)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert sum(history[-5:]) < 0.8 * sum(history[:5])


def test_what_does_not_belong_together_is_refused(files: dict[str, Any], tmp_path: Path) -> None:
    student = build_arch({"type": "UNet", "variant": "sass", "width": 2})
    student_file = save(student, tmp_path / "unet.pth")
    with pytest.raises(UserError, match="no blind spot for SASS's stage 1; use ATBSN"):
        SASSModel(student, 1)
    with pytest.raises(UserError, match="has a blind spot; use an ordinary network"):
        SASSModel(ATBSN(2), 3, **files)
    with pytest.raises(UserError, match=r"model\.bnn: missing; stage 2"):
        SASSModel(LAN(), 2)
    with pytest.raises(UserError, match=r"model\.lan: missing; stage 3"):
        SASSModel(student, 3, bnn=files["bnn"])
    with pytest.raises(UserError, match=r"model\.lan: .*stage 2 does not use it"):
        SASSModel(LAN(), 2, **files)
    with pytest.raises(UserError, match=r"model\.bnn: .*weights of a UNet; give that of stage 1"):
        SASSModel(LAN(), 2, bnn=student_file)
    with pytest.raises(UserError, match=r"model\.lan: .*weights of a ATBSN; give that of stage 2"):
        SASSModel(student, 3, bnn=files["bnn"], lan=files["bnn"])
    with pytest.raises(UserError, match=r"model\.k: 4: "):
        SASSModel(ATBSN(2), 1, k=4)
    with pytest.raises(UserError, match=r"flat_std: 6\.0 exceeds texture_std"):
        SASSModel(ATBSN(2), 1, flat_std=6.0)


def test_patches_are_multiples_of_the_blind_networks() -> None:
    assert SASSModel.patch_multiple(LAN, {}) == 32
    assert SASSModel.patch_multiple(UNet, {}) == 32
