from typing import Any

import pytest
import torch

from atbsn.archs import build_arch
from atbsn.models import build_model
from atbsn.utils.errors import UserError

LGBPN = {"type": "LGBPN", "width": 4, "num_modules": 1, "head_width": 2, "num_blocks": 1}
PUCA = {"type": "PUCA", "width": 4, "enc_blocks": [1, 1], "middle_blocks": 1, "dec_blocks": [1, 1]}


@pytest.mark.parametrize("network", [LGBPN, PUCA], ids=lambda network: network["type"])
def test_the_loss_is_the_distance_to_the_noisy_picture(network: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net, noisy = build_arch(network), torch.rand(2, 3, 40, 40) * 255
    losses = build_model({"type": "ReconstructionModel"}, net)({"noisy": noisy}, torch.tensor(0.0))
    torch.testing.assert_close(losses["loss"], (net(noisy) - noisy).abs().mean())
    losses["loss"].backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_every_so_manieth_pixel_is_learned_from() -> None:
    torch.manual_seed(0)
    net, noisy = build_arch(PUCA), torch.rand(2, 3, 40, 40) * 255
    model = build_model({"type": "ReconstructionModel", "pd_train": 5}, net)
    part = noisy[..., ::5, ::5]
    torch.testing.assert_close(model({"noisy": noisy}, torch.tensor(0.0))["loss"], (net(part) - part).abs().mean())
    assert type(model).patch_multiple(type(net), {"pd_train": 5}) == 40


def test_settings_travel_with_the_weights() -> None:
    options = {"type": "ReconstructionModel", "denoise": {"preset": "dnd", "refine": 4}}
    assert build_model(options, build_arch(LGBPN)).denoise_settings() == {"preset": "dnd", "refine": 4}
    assert build_model({"type": "ReconstructionModel"}, build_arch(LGBPN)).denoise_settings() == {}


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match=r"network.type: NBSN sees the pixel it has to guess; use LGBPN, PUCA or TBSN"):
        build_model({"type": "ReconstructionModel"}, build_arch({"type": "NBSN", "width": 2}))
    with pytest.raises(UserError, match=r"model.denoise.presett: unknown key; did you mean 'preset'"):
        build_model({"type": "ReconstructionModel", "denoise": {"presett": "dnd"}}, build_arch(LGBPN))
    with pytest.raises(UserError, match=r"model.denoise.preset: 'polyu'"):
        build_model({"type": "ReconstructionModel", "denoise": {"preset": "polyu"}}, build_arch(LGBPN))
