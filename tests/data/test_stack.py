"""Stacks: a simulated microscope's, through the data set, the noise model and the methods."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch

from atbsn.data.patches import PatchDataset
from atbsn.data.stack import Stack
from atbsn.utils.errors import UserError

WHITE = 4095
SHAPE = (2, 3, 96, 80)
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
def stacks(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("stacks")
    clean = clean_stack()
    for name, samples in (("noisy", noisy_stack(clean)), ("clean", clean.round().astype(np.uint16))):
        tifffile.imwrite(root / f"{name}.ome.tif", samples, metadata={"axes": "ZCYX"})
    return root


@pytest.fixture(scope="module")
def samples(stacks) -> np.ndarray:
    return tifffile.imread(stacks / "noisy.ome.tif")


def test_every_plane_is_a_picture(stacks, samples):
    images = Stack(stacks / "noisy.ome.tif")
    assert [images.key(index) for index in (0, 1, 5)] == [f"noisy.ome/{name}" for name in ("z0_c0", "z0_c1", "z1_c2")]
    assert len(images) == 6 and images.size(0) == (96, 80) and not images.has_clean
    for index in range(6):
        picture = images.read(index)
        assert picture.grey and picture.rgb.dtype == np.uint16 and picture.suffix == ".tif"
        assert np.array_equal(picture.rgb[..., 1], samples[divmod(index, 3)])
    assert images.groups(4) == {"channel": "1"}


def test_channels_together_and_a_white(stacks, samples):
    images = Stack(stacks / "noisy.ome.tif", channels="together", white=WHITE)
    assert [images.key(index) for index in range(len(images))] == ["noisy.ome/z0", "noisy.ome/z1"]
    rgb = images.read(1).rgb
    assert rgb.dtype == np.float32
    np.testing.assert_allclose(rgb, samples[1].transpose(1, 2, 0) * np.float32(255 / WHITE), rtol=1e-6)
    assert PatchDataset(images, 32, channels=3)[0]["noisy"].dtype == torch.float32


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    ("axes", "shape", "keys", "first"),
    [
        ("YX", (40, 50), ["a"], (...,)),
        ("TZYX", (11, 2, 40, 50), ["a/t00_z0", "a/t00_z1", "a/t01_z0"], (0, 0)),
        ("YXS", (40, 50, 3), ["a/s0", "a/s1", "a/s2"], (..., 0)),
    ],
)
def test_axes_of_files(tmp_path, axes, shape, keys, first, compression):
    values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    photometric = "rgb" if "S" in axes else "minisblack"
    tifffile.imwrite(
        tmp_path / "a.tif", values, metadata={"axes": axes}, photometric=photometric, compression=compression
    )
    images = Stack(tmp_path)
    assert [images.key(index) for index in range(len(images))][:3] == keys
    assert np.array_equal(images.read(0).rgb[..., 0], values[first])


def test_axes_that_the_user_names(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (40, 50, 4), np.uint8)
    np.testing.assert_equal(values.shape, (40, 50, 4))
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    images = Stack(tmp_path, axes="YXC", channels="together")
    assert len(images) == 1 and np.array_equal(images.read(0).rgb, values)
    with pytest.raises(UserError, match=r"axes: 'ZYXC' does not fit .*40 x 50 x 4; give a letter for each"):
        Stack(tmp_path, axes="ZYXC")


def test_floats_have_one_scale_and_keep_what_is_below_black(tmp_path):
    values = np.random.default_rng(0).normal(0.2, 0.3, (3, 40, 50)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, metadata={"axes": "ZYX"}, photometric="minisblack")
    with pytest.raises(UserError, match=r"floating point; say which value is white, such as white: 1\.0"):
        Stack(tmp_path)
    images = Stack(tmp_path, white=1.0)
    np.testing.assert_allclose(images.read(2).rgb[..., 0], values[2] * 255, rtol=1e-5)
    assert images.read(2).rgb.min() < 0


def test_what_is_no_stack(tmp_path):
    with pytest.raises(UserError, match=r"no stack in it"):
        Stack(tmp_path)
    (tmp_path / "a.tif").write_bytes(b"no TIFF")
    with pytest.raises(UserError, match=r"a\.tif: cannot be read as a TIFF stack"):
        Stack(tmp_path)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 40, 50), np.int32), photometric="minisblack")
    with pytest.raises(UserError, match=r"samples of int32; save it as unsigned integers"):
        Stack(tmp_path)


def test_references(stacks, tmp_path):
    images = Stack(stacks / "noisy.ome.tif", stacks / "clean.ome.tif", white=WHITE)
    difference = images.read(3).rgb - images.read_clean(3).rgb
    assert images.has_clean and 3 < difference.std() < 10
    tifffile.imwrite(tmp_path / "noisy.ome.tif", np.zeros((2, 40, 50), np.uint16), metadata={"axes": "ZYX"})
    with pytest.raises(UserError, match="a reference has the same planes"):
        Stack(stacks / "noisy.ome.tif", tmp_path / "noisy.ome.tif")
    with pytest.raises(UserError, match=r"clean\.ome\.tif \(and 1 more\): no such file; every stack needs a reference"):
        Stack(stacks, tmp_path / "nowhere")
