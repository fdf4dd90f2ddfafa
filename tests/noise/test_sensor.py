"""Sensors for any number of channels: their noise, and a PhotoNet that learns to take it off."""

import numpy as np
import pytest
import tifffile
import torch

from atbsn.archs import build_arch
from atbsn.models import build_model
from atbsn.noise.camera import RandomCamera
from atbsn.noise.prior import CameraPrior
from atbsn.noise.sensor import RandomSensor, camera_for
from atbsn.utils.errors import UserError

PLAIN = {"processed": 0, "softened": 0, "noiseless": 0, "exposure": (1, 1), "read_spread": 0}
"""Nothing but Poisson and Gaussian noise."""


def taken(prior: CameraPrior, channels: int, value: float = 102.0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return RandomSensor(prior)(torch.full((16, channels, 64, 64), value))


@pytest.mark.parametrize("channels", [1, 2, 5, 16])
@pytest.mark.parametrize("shot", [1e-3, 3e-2])
def test_the_noise_is_that_of_light_and_of_readout(channels, shot):
    prior = CameraPrior(shot_noise=(shot, shot), **PLAIN)
    noisy, clean = taken(prior, channels)
    assert noisy.shape == clean.shape == (16, channels, 64, 64)
    torch.testing.assert_close(clean, torch.full_like(clean, 102.0))
    noise = (noisy - clean) / 255
    expected = shot * 0.4 + np.exp(prior.read_slope * np.log(shot) + prior.read_offset)
    assert noise.mean().item() == pytest.approx(0, abs=5 * (expected / noise.numel()) ** 0.5)
    assert noise.var().item() == pytest.approx(expected, rel=0.05)
    assert (noisy != noisy.round()).float().mean() > 0.9  # not rounded to 8 bits
    lag = (noise[..., 1:] * noise[..., :-1]).mean() / noise.var()
    assert lag.item() == pytest.approx(0, abs=0.02)


def test_smoothed_noise_keeps_its_level_and_is_shared_by_neighbours():
    plain = CameraPrior(shot_noise=(1e-2, 1e-2), **PLAIN)
    noisy, clean = taken(plain, 2)
    smooth, _ = taken(plain.model_copy(update={"processed": 1.0, "luma_smoothing": (1.0, 1.0)}), 2)
    noise, smooth = noisy - clean, smooth - clean
    assert smooth.std().item() == pytest.approx(noise.std().item(), rel=0.03)
    assert (smooth[..., 1:] * smooth[..., :-1]).mean() / smooth.var() > 0.5


def test_light_that_is_dimmed_and_pictures_without_noise():
    dim = CameraPrior(**PLAIN | {"exposure": (0.5, 0.5), "noiseless": 1})
    noisy, clean = taken(dim, 1)
    assert torch.equal(noisy, clean)
    torch.testing.assert_close(clean, torch.full_like(clean, 51.0))


def test_which_camera():
    assert isinstance(camera_for(CameraPrior(), 3), RandomCamera)
    assert isinstance(camera_for(CameraPrior(), 4), RandomSensor)
    assert isinstance(camera_for(CameraPrior(kind="sensor"), 3), RandomSensor)
    with pytest.raises(UserError, match=r"model\.camera\.kind: camera makes photographs of 3 channels, .* is for 1"):
        camera_for(CameraPrior(kind="camera"), 1)


def test_a_network_of_one_channel_learns_to_take_it_off():
    torch.manual_seed(0)
    net = build_arch({"type": "PhotoNet", "widths": [8, 8], "blocks": 1, "middle_blocks": 1, "channels": 1})
    model = build_model({"type": "RenoiseModel", "camera": {"shot_noise": [3e-2, 3e-2], "noiseless": 0}}, net)
    batch = {"noisy": torch.linspace(40, 200, 64).expand(4, 1, 64, 64).contiguous()}
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    history = []
    for _ in range(40):
        loss = model(batch, torch.tensor(0.0))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert sum(history[-5:]) < 0.85 * sum(history[:5])


@pytest.mark.parametrize(("channels", "kind"), [(1, np.uint16), (2, np.uint16), (2, np.float32)])
def test_from_clean_stacks_of_other_depths_to_weights(command, write_options, tmp_path, channels, kind):
    """Two stacks of one stem among them, which are told apart."""
    values = np.random.default_rng(0).uniform(300, 3000, (2, 2, 48, 56)).astype(kind)
    (tmp_path / "stacks").mkdir()
    for name in ("a.tif", "a.tiff"):
        tifffile.imwrite(tmp_path / "stacks" / name, values, metadata={"axes": "ZCYX"}, photometric="minisblack")
    data = {"type": "Stack", "dataroot": str(tmp_path / "stacks"), "white": 4095}
    data["channels"] = "apart" if channels == 1 else "together"
    options = write_options(
        datasets={"train": {**data, "patch_size": 32, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0}, "test": data},
        network={"type": "PhotoNet", "widths": [4, 4], "blocks": 1, "middle_blocks": 1, "channels": channels},
        model={"type": "RenoiseModel"},
    )
    root = f"path.root={tmp_path / 'runs'}"
    status, output = command("train.py", "-opt", options, "--set", root, "train.total_iter=2", "name=sensor")
    assert status == 0, output
    weights = f"path.pretrain_network={tmp_path / 'runs/experiments/sensor/models/net_latest.pth'}"
    status, output = command("test.py", "-opt", options, "--set", root, weights, "name=sensor")
    assert status == 0, output
    written = sorted((tmp_path / "runs" / "results" / "sensor").rglob("z*.tif"))
    assert len(written) == (8 if channels == 1 else 4)
    assert {path.parent.name for path in written} == {"a.tif", "a.tiff"}
