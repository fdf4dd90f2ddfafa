"""Mosaics of cameras drawn at random."""

import math

import pytest
import torch

from atbsn.archs import build_arch
from atbsn.archs.weights import load
from atbsn.models import build_model
from atbsn.noise.mosaic import RandomMosaic
from atbsn.noise.prior import CameraPrior
from atbsn.utils.errors import UserError

STILL = {
    "exposure": (1.0, 1.0), "light": (1.0, 1.0), "balance": (2.0, 2.0), "matrix_mean": (0.0,) * 6,
    "matrix_std": (0.0,) * 6, "clipped": 0.0, "banding": 0.0, "hot_pixels": 0.0, "softened": 0.0, "recoloured": 0.0,
    "patterned": 0.0, "noiseless": 0.0, "read_spread": 0.0,
}  # fmt: skip
"""A camera that sees sRGB's primaries, and nothing at random but its noise."""
NETWORK = {"type": "PhotoNet", "channels": 4, "curve": "root", "widths": [4, 4], "blocks": 1, "middle_blocks": 1}


def test_noise_is_that_of_the_raw_value_and_independent():
    shot = 5e-3
    torch.manual_seed(0)
    camera = RandomMosaic(CameraPrior(**STILL, shot_noise=(shot, shot)))
    noisy, clean = camera(torch.full((4, 3, 256, 256), 160.0))
    green = ((160 / 255 + 0.055) / 1.055) ** 2.4
    values = [green / 2, green, green, green / 2]
    assert (clean[0, :, 5, 5] / 255).tolist() == pytest.approx(values, rel=1e-4)
    noise = (noisy - clean) / 255
    read = math.exp(1.23 * math.log(shot) - 3.42)
    expected = [(shot * value + read) ** 0.5 for value in values]
    assert noise.std(dim=(0, 2, 3)).tolist() == pytest.approx(expected, rel=0.02)
    assert abs((noise[..., 1:] * noise[..., :-1]).mean() / noise.square().mean()) < 0.01
    assert torch.corrcoef(noise.transpose(0, 1).flatten(1)).triu(1).abs().max() < 0.02


def test_what_a_sensor_holds_and_what_a_camera_cuts_off():
    torch.manual_seed(0)
    dark, white = torch.zeros(2, 3, 64, 64), torch.full((2, 3, 64, 64), 255.0)
    for clipped, least in ((0.0, -1.0), (1.0, 0.0)):
        noisy, _ = RandomMosaic(CameraPrior(**{**STILL, "clipped": clipped}, shot_noise=(1e-2, 1e-2)))(dark)
        assert (noisy.min() < least) == (clipped == 0) and noisy.min() <= 0
    noisy, _ = RandomMosaic(CameraPrior(**STILL, shot_noise=(1e-2, 1e-2)))(white)
    assert noisy[:, 1].max() == 255


def test_a_network_learns_mosaics_from_pictures():
    torch.manual_seed(0)
    model = build_model({"type": "RenoiseModel", "raw": True}, build_arch(NETWORK))
    assert model.picture_channels == 3 and model.net.channels == 4
    losses = model({"noisy": torch.rand(2, 3, 64, 64) * 255, "index": torch.zeros(2)}, torch.tensor(0.0))
    losses["loss"].backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.net.parameters())


def test_a_training_of_it_reads_pictures(command, write_options, tmp_path):
    options = write_options(network=NETWORK, model={"type": "RenoiseModel", "raw": True})
    status, output = command("train", "-opt", options, "--set", f"path.root={tmp_path}", "train.total_iter=2")
    assert status == 0, output
    (weights,) = tmp_path.glob("experiments/*/models/net_latest.pth")
    assert load(weights).channels == 4


def test_the_channels_of_the_network_are_checked():
    net = build_arch({**NETWORK, "channels": 3})
    with pytest.raises(UserError, match=r"network\.channels: 3: .*; set it to 4"):
        build_model({"type": "RenoiseModel", "raw": True}, net)
