"""Sensors for any number of channels: their noise, and a PhotoNet that learns to take it off."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from helpers.kinds import Command, WriteOptions

from atbsn.archs import build_arch
from atbsn.models import build_model
from atbsn.noise.camera import RandomCamera
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.prior import CameraPrior
from atbsn.noise.sensor import RandomSensor, camera_for
from atbsn.utils.errors import UserError

PLAIN: dict[str, Any] = {"processed": 0, "softened": 0, "noiseless": 0, "exposure": (1, 1), "read_spread": 0}
"""Nothing but Poisson and Gaussian noise."""


def taken(prior: CameraPrior, channels: int, value: float = 102.0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return RandomSensor(prior)(torch.full((16, channels, 64, 64), value))


@pytest.mark.parametrize("channels", [1, 2, 5, 16])
@pytest.mark.parametrize("shot", [1e-3, 3e-2])
def test_the_noise_is_that_of_light_and_of_readout(channels: int, shot: float) -> None:
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


def test_smoothed_noise_keeps_its_level_and_is_shared_by_neighbours() -> None:
    plain = CameraPrior(shot_noise=(1e-2, 1e-2), **PLAIN)
    noisy, clean = taken(plain, 2)
    smooth, _ = taken(plain.model_copy(update={"processed": 1.0, "luma_smoothing": (1.0, 1.0)}), 2)
    noise, smooth = noisy - clean, smooth - clean
    assert smooth.std().item() == pytest.approx(noise.std().item(), rel=0.03)
    assert (smooth[..., 1:] * smooth[..., :-1]).mean() / smooth.var() > 0.5


def test_light_that_is_dimmed_and_pictures_without_noise() -> None:
    dim = CameraPrior(**PLAIN | {"exposure": (0.5, 0.5), "noiseless": 1})
    noisy, clean = taken(dim, 1)
    assert torch.equal(noisy, clean)
    torch.testing.assert_close(clean, torch.full_like(clean, 51.0))


def test_which_camera() -> None:
    assert isinstance(camera_for(CameraPrior(), 3), RandomCamera)
    assert isinstance(camera_for(CameraPrior(), 4), RandomSensor)
    assert isinstance(camera_for(CameraPrior(kind="sensor"), 3), RandomSensor)
    with pytest.raises(UserError, match=r"model\.camera\.kind: camera makes photographs of 3 channels, .* is for 1"):
        camera_for(CameraPrior(kind="camera"), 1)


def test_a_network_of_one_channel_learns_to_take_it_off() -> None:
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
def test_from_clean_stacks_of_other_depths_to_weights(
    command: Command, write_options: WriteOptions, tmp_path: Path, channels: int, kind: type[np.generic]
) -> None:
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


def test_light_is_softened_then_exposed_then_held_between_black_and_white() -> None:
    """Some pictures are blurred; all are made brighter here, by up to twice."""
    pictures = torch.zeros(300, 2, 16, 16)
    pictures[..., 8], pictures[..., 12] = 51.0, 255.0
    torch.manual_seed(0)
    prior = CameraPrior.model_validate(
        PLAIN | {"softened": 0.4, "softness": (1, 1), "exposure": (1, 2), "noiseless": 1}
    )
    _, clean = RandomSensor(prior)(pictures)
    soft = clean[:, 0, 8, 7] > 0
    assert float(soft.float().mean()) == pytest.approx(0.4, abs=0.08)
    torch.testing.assert_close(
        clean[soft][:, :, 8, 6] / clean[soft][:, :, 8, 7],
        torch.full((int(soft.sum()), 2), math.exp(-1.5)),
        rtol=0.02,
        atol=0,
    )
    exposure = clean[~soft][:, 0, 8, 8] / 51
    assert 1 <= exposure.min() < 1.03 and 1.95 < exposure.max() <= 2 and clean.max() == 255
    black = torch.full((2, 1, 16, 16), -20.0)
    assert not RandomSensor(prior)(black)[1].any()


def test_readout_noise_follows_light_with_a_spread() -> None:
    """In the dark there is nothing else: ln b is ln a times the slope, plus the offset, plus a normal number."""
    torch.manual_seed(0)
    prior = CameraPrior.model_validate(
        PLAIN | {"shot_noise": (1e-3, 1e-2), "read_spread": 0.5, "read_slope": 2.0, "read_offset": 1.0}
    )
    noisy, _ = RandomSensor(prior)(torch.zeros(800, 1, 16, 16))
    logs = (noisy / 255).square().mean((1, 2, 3)).log()
    expected = 2 * (math.log(1e-3) + math.log(1e-2)) / 2 + 1
    assert float(logs.mean()) == pytest.approx(expected, abs=0.15)
    assert float(logs.std()) == pytest.approx((0.5**2 + (2 * math.log(10)) ** 2 / 12) ** 0.5, rel=0.08)


def test_shares_of_the_pictures_are_smoothed_and_have_no_noise() -> None:
    torch.manual_seed(0)
    prior = CameraPrior.model_validate(PLAIN | {"noiseless": 0.3, "processed": 0.5, "luma_smoothing": (1, 1)})
    noisy, clean = RandomSensor(prior)(torch.full((300, 1, 32, 32), 90.0))
    noise = noisy - clean
    seen = noise.flatten(1).any(1)
    assert float(seen.float().mean()) == pytest.approx(0.7, abs=0.08)
    lags = (noise[..., 1:] * noise[..., :-1]).mean((1, 2, 3))[seen] / noise.square().mean((1, 2, 3))[seen]
    assert float((lags > 0.4).float().mean()) == pytest.approx(0.5, abs=0.1)


def test_a_sensor_is_computed_in_float32_and_not_differentiated() -> None:
    pictures = torch.full((2, 1, 16, 16), 90.0, requires_grad=True)
    made = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            made.append(RandomSensor(CameraPrior(processed=1.0))(pictures))
    for plain, mixed in zip(*made, strict=True):
        assert torch.equal(plain, mixed) and plain.dtype == torch.float32 and not plain.requires_grad


def test_a_table_is_for_photographs() -> None:
    cameras = CameraTable.drawn(CameraPrior(), torch.empty(2, 1, 1, 1))
    camera = camera_for(CameraPrior(), 3, cameras)
    assert isinstance(camera, RandomCamera) and camera._table is not None
    assert isinstance(camera_for(CameraPrior(kind="camera"), 3), RandomCamera)
    for prior, channels in ((CameraPrior(), 4), (CameraPrior(kind="sensor"), 3)):
        with pytest.raises(UserError, match=r"^model\.cameras: a table of cameras for photographs; leave it out"):
            camera_for(prior, channels, cameras)
