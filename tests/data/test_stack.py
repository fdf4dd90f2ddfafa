"""Stacks: a simulated microscope's, through the data set, the noise model and the methods."""

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from helpers.kinds import Command, WriteOptions

from atbsn.data.patches import PatchDataset
from atbsn.data.stack import Stack
from atbsn.noise import NoiseModel, describe_noise, estimate, plot
from atbsn.utils.errors import UserError

WHITE = 4095
SHAPE = (2, 2, 96, 80)
"""Depths, channels, height, width."""


def clean_stack() -> np.ndarray:
    """Blurred spots on a background, (Z, C, Y, X), as a fluorescence microscope of 12 bits sees them."""
    rng = np.random.default_rng(0)
    planes = np.zeros(SHAPE, np.float32)
    for plane in planes.reshape(-1, *SHAPE[2:]):
        for y, x, light in zip(rng.uniform(0, 96, 12), rng.uniform(0, 80, 12), rng.uniform(4e4, 2e5, 12), strict=True):
            plane[int(y), int(x)] = light
        plane[:] = 600 + cv2.GaussianBlur(plane, (0, 0), 5)
    return planes.clip(0, 3500)


def noisy_stack(clean: np.ndarray) -> np.ndarray:
    """With noise that neighbouring pixels share, of standard deviation 100 of 4095."""
    white = np.random.default_rng(1).normal(0, 1, (*SHAPE[:2], 98, 82)).astype(np.float32)
    field = np.stack([cv2.blur(plane, (2, 2))[1:-1, 1:-1] for plane in white.reshape(-1, 98, 82)]).reshape(SHAPE)
    return (clean + 200 * field).clip(0, 65535).round().astype(np.uint16)


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stacks")
    clean = clean_stack()
    for name, samples in (("noisy", noisy_stack(clean)), ("clean", clean.round().astype(np.uint16))):
        tifffile.imwrite(root / f"{name}.ome.tif", samples, metadata={"axes": "ZCYX"})
    return root


@pytest.fixture(scope="module")
def samples(stacks: Path) -> np.ndarray:
    return tifffile.imread(stacks / "noisy.ome.tif")


def test_every_plane_is_a_picture(stacks: Path, samples: np.ndarray) -> None:
    images = Stack(stacks / "noisy.ome.tif")
    assert [images.key(index) for index in (0, 1, 3)] == [f"noisy.ome/{name}" for name in ("z0_c0", "z0_c1", "z1_c1")]
    assert len(images) == 4 and images.size(0) == (96, 80) and not images.has_clean
    for index in range(4):
        picture = images.read(index)
        assert picture.grey and picture.rgb.dtype == np.uint16 and picture.suffix == ".tif"
        assert np.array_equal(picture.rgb[..., 1], samples[divmod(index, 2)])
    assert images.groups(3) == {"channel": "1"}


def test_channels_together_and_a_white(stacks: Path, samples: np.ndarray) -> None:
    images = Stack(stacks / "noisy.ome.tif", channels="together", white=WHITE)
    assert [images.key(index) for index in range(len(images))] == ["noisy.ome/z0", "noisy.ome/z1"]
    rgb = images.read(1).rgb
    assert rgb.dtype == np.float32
    np.testing.assert_allclose(rgb, samples[1].transpose(1, 2, 0) * np.float32(255 / WHITE), rtol=1e-6)
    assert PatchDataset(images, 32, channels=2)[0]["noisy"].dtype == torch.float32


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    ("axes", "shape", "keys", "first"),
    [
        ("YX", (40, 50), ["a"], (...,)),
        ("TZYX", (11, 2, 40, 50), ["a/t00_z0", "a/t00_z1", "a/t01_z0"], (0, 0)),
        ("YXS", (40, 50, 3), ["a/s0", "a/s1", "a/s2"], (..., 0)),
    ],
)
def test_axes_of_files(
    tmp_path: Path, axes: str, shape: tuple[int, ...], keys: list[str], first: Any, compression: str | None
) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    photometric = "rgb" if "S" in axes else "minisblack"
    tifffile.imwrite(
        tmp_path / "a.tif", values, metadata={"axes": axes}, photometric=photometric, compression=compression
    )
    images = Stack(tmp_path)
    assert [images.key(index) for index in range(len(images))][:3] == keys
    assert np.array_equal(images.read(0).rgb[..., 0], values[first])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_stack_of_the_same_name_elsewhere_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str | None
) -> None:
    for value, name in ((1, "one"), (2, "two")):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        tifffile.imwrite("a.tif", np.full((2, 32, 32 * value), value, np.uint8), compression=compression)
        picture = Stack("a.tif").read(0)
        assert picture.rgb.shape[:2] == (32, 32 * value) and (picture.rgb == value).all()


def test_axes_that_the_user_names(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 50, 4), np.uint8)
    np.testing.assert_equal(values.shape, (40, 50, 4))
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    images = Stack(tmp_path, axes="YXC", channels="together")
    assert len(images) == 1 and np.array_equal(images.read(0).rgb, values)
    with pytest.raises(UserError, match=r"axes: 'ZYXC' does not fit .*40 x 50 x 4; give a letter for each"):
        Stack(tmp_path, axes="ZYXC")


def test_floats_have_one_scale_and_keep_what_is_below_black(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0.2, 0.3, (3, 40, 50)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, metadata={"axes": "ZYX"}, photometric="minisblack")
    with pytest.raises(UserError, match=r"floating point; say which value is white, such as white: 1\.0"):
        Stack(tmp_path)
    images = Stack(tmp_path, white=1.0)
    np.testing.assert_allclose(images.read(2).rgb[..., 0], values[2] * 255, rtol=1e-5)
    assert images.read(2).rgb.min() < 0


def test_what_is_no_stack(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no stack in it"):
        Stack(tmp_path)
    (tmp_path / "a.tif").write_bytes(b"no TIFF")
    with pytest.raises(UserError, match=r"a\.tif: cannot be read as a TIFF stack"):
        Stack(tmp_path)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 40, 50), np.int32), photometric="minisblack")
    with pytest.raises(UserError, match=r"samples of int32; save it as unsigned integers"):
        Stack(tmp_path)


def test_references(stacks: Path, tmp_path: Path) -> None:
    images = Stack(stacks / "noisy.ome.tif", stacks / "clean.ome.tif", white=WHITE)
    difference = images.read(3).rgb - images.read_clean(3).rgb
    assert images.has_clean and 3 < difference.std() < 10
    tifffile.imwrite(tmp_path / "noisy.ome.tif", np.zeros((2, 40, 50), np.uint16), metadata={"axes": "ZYX"})
    with pytest.raises(UserError, match="a reference has the same planes"):
        Stack(stacks / "noisy.ome.tif", tmp_path / "noisy.ome.tif")
    with pytest.raises(UserError, match=r"clean\.ome\.tif \(and 1 more\): no such file; every stack needs a reference"):
        Stack(stacks, tmp_path / "nowhere")


@pytest.mark.parametrize("channels", [1, 2])
def test_the_noise_of_one_and_of_two_channels(channels: int) -> None:
    """Its level and its correlation, as for RGB."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(3):
        noise = cv2.blur(rng.normal(0, 16, (200, 200, channels)).astype(np.float32), (2, 2)).reshape(200, 200, channels)
        pictures.append(np.linspace(40, 200, 200, dtype=np.float32)[:, None, None] + noise)
    model = estimate(pictures)
    assert model.channels == channels
    level = model.level(torch.full((1, channels, 1, 1), 120.0))
    assert level.flatten().tolist() == pytest.approx([8] * channels, rel=0.12)
    assert model.correlation[0, 0, 4, 5].item() == pytest.approx(0.5, abs=0.08)
    again = NoiseModel.from_dict(model.to_dict())
    drawn = again.sample(torch.full((4, channels, 64, 64), 120.0), torch.Generator().manual_seed(0))
    assert drawn.shape == (4, channels, 64, 64) and drawn.std().item() == pytest.approx(8, rel=0.15)
    assert ("between colours" in describe_noise(model)) == (channels > 1)
    assert len(plot(model).get_axes()) == 1 + channels**2 + 1  # levels, correlations, colour bar


@pytest.mark.parametrize(
    ("network", "model", "patch_size"),
    [
        ({"type": "ATBSN", "width": 4}, {"type": "BSNModel", "k_train": 5, "k_test": 3}, 32),
        ({"type": "APBSN", "width": 4, "num_modules": 2}, {"type": "APBSNModel"}, 40),
        ({"type": "UNet", "width": 4}, {"type": "Noise2VoidModel", "axis": "across"}, 64),
        (
            {"type": "PhotoNet", "widths": [4, 4], "blocks": 1, "middle_blocks": 1},
            {"type": "RecorruptModel", "num_crops": 8, "own_models": 2},
            32,
        ),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_stack_is_trained_on_and_denoised(
    command: Command,
    write_options: WriteOptions,
    stacks: Path,
    samples: np.ndarray,
    tmp_path: Path,
    network: dict[str, Any],
    model: dict[str, Any],
    patch_size: int,
    channels: int,
) -> None:
    """AT-BSN, AP-BSN and recorruption, for one channel and for all; validated with a reference and without."""
    data = {"type": "Stack", "dataroot": str(stacks / "noisy.ome.tif"), "white": WHITE}
    data["channels"] = "apart" if channels == 1 else "together"
    options = write_options(
        datasets={
            "train": {**data, "patch_size": patch_size, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0},
            "val": {**data, "dataroot_clean": str(stacks / "clean.ome.tif")},
            "val_alone": data,
            "test": data,
        },
        network={**network, "channels": channels},
        model=model,
        val={"val_freq": 2, "metrics": {"psnr": {"type": "psnr"}}},
    )
    root = f"path.root={tmp_path / 'runs'}"
    status, output = command("train.py", "-opt", options, "--set", root, "train.total_iter=2", "name=stack")
    assert status == 0, output
    with (tmp_path / "runs/experiments/stack/metrics.csv").open() as file:
        measured = {row["metric"]: float(row["value"]) for row in csv.DictReader(file)}
    assert measured["estimated_psnr"] == pytest.approx(measured["psnr"], abs=1)
    weights = f"path.pretrain_network={tmp_path / 'runs/experiments/stack/models/net_latest.pth'}"
    status, output = command("test.py", "-opt", options, "--set", root, weights, "name=stack")
    assert status == 0, output
    written = sorted((tmp_path / "runs" / "results" / "stack").rglob("*.tif"))
    assert len(written) == (4 if channels == 1 else 2)
    result = tifffile.imread(written[0])
    assert result.dtype == np.float32 and result.shape == (SHAPE[2:] if channels == 1 else (*SHAPE[2:], channels))
    if network["type"] == "PhotoNet":  # it begins by changing nothing
        first = samples[0, 0] if channels == 1 else samples[0].transpose(1, 2, 0)
        np.testing.assert_allclose(result, first, atol=100)  # in the scale of the file
