"""Mosaics of cameras drawn at random."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.kinds import Command, WriteOptions

from atbsn.archs import build_arch
from atbsn.archs.weights import load
from atbsn.models import build_model
from atbsn.noise.mosaic import RandomMosaic
from atbsn.noise.prior import CameraPrior
from atbsn.utils.errors import UserError

STILL: dict[str, Any] = {
    "exposure": (1.0, 1.0), "light": (1.0, 1.0), "balance": (2.0, 2.0), "matrix_mean": (0.0,) * 6,
    "matrix_std": (0.0,) * 6, "clipped": 0.0, "banding": 0.0, "hot_pixels": 0.0, "softened": 0.0, "recoloured": 0.0,
    "patterned": 0.0, "noiseless": 0.0, "read_spread": 0.0,
}  # fmt: skip
"""A camera that sees sRGB's primaries, and nothing at random but its noise."""
NETWORK = {"type": "PhotoNet", "channels": 4, "curve": "root", "widths": [4, 4], "blocks": 1, "middle_blocks": 1}


def test_noise_is_that_of_the_raw_value_and_independent() -> None:
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


def test_what_a_sensor_holds_and_what_a_camera_cuts_off() -> None:
    torch.manual_seed(0)
    dark, white = torch.zeros(2, 3, 64, 64), torch.full((2, 3, 64, 64), 255.0)
    for clipped, least in ((0.0, -1.0), (1.0, 0.0)):
        noisy, _ = RandomMosaic(CameraPrior(**{**STILL, "clipped": clipped}, shot_noise=(1e-2, 1e-2)))(dark)
        assert (noisy.min() < least) == (clipped == 0) and noisy.min() <= 0
    noisy, _ = RandomMosaic(CameraPrior(**STILL, shot_noise=(1e-2, 1e-2)))(white)
    assert noisy[:, 1].max() == 255


def test_a_network_learns_mosaics_from_pictures() -> None:
    torch.manual_seed(0)
    model = build_model({"type": "RenoiseModel", "raw": True}, build_arch(NETWORK))
    assert model.picture_channels == 3 and model.net.channels == 4
    losses = model({"noisy": torch.rand(2, 3, 64, 64) * 255, "index": torch.zeros(2)}, torch.tensor(0.0))
    losses["loss"].backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.net.parameters())


def test_a_training_of_it_reads_pictures(command: Command, write_options: WriteOptions, tmp_path: Path) -> None:
    options = write_options(network=NETWORK, model={"type": "RenoiseModel", "raw": True})
    status, output = command("train", "-opt", options, "--set", f"path.root={tmp_path}", "train.total_iter=2")
    assert status == 0, output
    (weights,) = tmp_path.glob("experiments/*/models/net_latest.pth")
    assert load(weights).channels == 4


def test_the_channels_of_the_network_are_checked() -> None:
    net = build_arch({**NETWORK, "channels": 3})
    with pytest.raises(UserError, match=r"network\.channels: 3: .*; set it to 4"):
        build_model({"type": "RenoiseModel", "raw": True}, net)


def mosaics(
    value: float, shape: tuple[int, ...] = (64, 3, 32, 32), **changes: object
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy and clean of a flat grey, in [0, 1], where hardly any noise is but what ``changes`` add."""
    torch.manual_seed(0)
    weak = {"shot_noise": (1e-8, 1e-8), "read_offset": -40.0, "balance": (1.0, 1.0)}
    camera = RandomMosaic(CameraPrior.model_validate(STILL | weak | changes))
    noisy, clean = camera(torch.full(shape, value))
    return noisy / 255, clean / 255


def test_a_mosaic_may_be_wide_or_high() -> None:
    for height, width in ((16, 48), (48, 16)):
        noisy, clean = mosaics(90.0, (2, 3, height, width))
        assert noisy.shape == clean.shape == (2, 4, height // 2, width // 2)


def test_the_colour_matrix_and_the_balance_come_before_the_mosaic() -> None:
    """A camera sees the inverse of its matrix, and red and blue weaker by the gains of its white balance."""
    matrix = torch.tensor([[1.3, -0.4, 0.1], [-0.2, 1.5, -0.3], [0.05, -0.5, 1.45]])
    changes = {"matrix_mean": (-0.4, 0.1, -0.2, -0.3, 0.05, -0.5), "balance": (2.0, 2.0)}
    torch.manual_seed(0)
    camera = RandomMosaic(CameraPrior.model_validate(STILL | changes))
    rgb = torch.tensor([120.0, 130.0, 140.0])
    _, clean = camera(rgb.view(1, 3, 1, 1).expand(1, 3, 16, 16))
    red, green, blue = torch.linalg.inv(matrix) @ ((rgb / 255 + 0.055) / 1.055) ** 2.4
    torch.testing.assert_close(
        clean[0, :, 3, 3] / 255, torch.stack([red / 2, green, green, blue / 2]), atol=1e-5, rtol=0
    )


def test_values_are_rounded_to_the_steps_of_10_to_14_bits() -> None:
    """A converter of n bits has 2^n - 1 steps from black to white; each number of bits is as frequent."""
    noisy, clean = mosaics(137.0, (300, 3, 16, 16), noiseless=1.0)
    fits = []
    for bits in range(8, 17):
        steps = 2**bits - 1
        rounded = (clean.double() * steps).round() / steps
        fits.append(((noisy - rounded).abs() < 2e-7).flatten(1).all(1))
    counts = torch.stack(fits).float().mean(1)
    assert counts[2:7].tolist() == pytest.approx([0.2] * 5, abs=0.08)
    assert counts[:2].tolist() == [0, 0] == counts[7:].tolist()
    white, _ = mosaics(255.0, noiseless=1.0)
    assert white.eq(1).all()


def test_banding_is_of_rows_or_columns_of_the_sensor() -> None:
    """In units of the noise at a raw value of 0.1; two rows of the sensor are one of the packed mosaic."""
    changes = {
        "banding": 1.0,
        "banding_level": (2.0, 2.0),
        "shot_noise": (1e-3, 1e-3),
        "read_slope": 0.0,
        "read_offset": math.log(1e-3),
    }
    noisy, clean = mosaics(90.0, (400, 3, 16, 16), **changes)
    quiet, _ = mosaics(90.0, (400, 3, 16, 16), **changes | {"banding": 0.0})
    added = noisy.var() - quiet.var()
    assert float(added) == pytest.approx(4 * (0.1 * 1e-3 + 1e-3), rel=0.12)
    noise = noisy - clean
    rows = noise.mean(3).var((1, 2)) > noise.mean(2).var((1, 2))
    assert float(rows.float().mean()) == pytest.approx(0.5, abs=0.1)


def test_hot_pixels_rise_towards_white() -> None:
    noisy, clean = mosaics(90.0, (16, 3, 64, 64), hot_pixels=1.0, hot_density=(0.25, 0.25))
    hot = (noisy - clean)[(noisy - clean) > 0.01]
    value = float(clean[0, 0, 0, 0])
    assert len(hot) / noisy.numel() == pytest.approx(0.25 * (1 - value - 0.01), rel=0.04)
    assert float(hot.mean()) == pytest.approx((1 - value) / 2, rel=0.03) and hot.max() > 0.95 * (1 - value)
    assert (noisy - clean).min() > -0.002


def test_some_pictures_have_no_noise() -> None:
    noisy, clean = mosaics(90.0, (200, 3, 16, 16), noiseless=0.3, shot_noise=(1e-2, 1e-2))
    quiet = ((noisy - clean).abs().flatten(1).amax(1) < 1e-3).float().mean()
    assert float(quiet) == pytest.approx(0.3, abs=0.09)
