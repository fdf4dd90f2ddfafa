"""PSNR and SSIM meet the published protocols."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from skimage.metrics import structural_similarity

from atbsn.metrics import METRICS, build_metric, psnr, ssim
from atbsn.registry.plugins import load_plugin
from atbsn.utils.errors import UserError

PROTOCOLS = ["y", "rgb", "uniform7", "volume"]


def read(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def pair(height: int = 150, width: int = 41, dtype: Any = np.float64) -> Any:
    """A smooth picture with noise, and a prediction that leaves [0, 255] here and there."""
    rng = np.random.default_rng(height)
    rows, columns = np.mgrid[:height, :width]
    smooth = 128 + 120 * np.sin(rows / 9)[..., None] * np.cos(columns / 7 + rows / 30)[..., None]
    reference = np.clip(np.round(smooth + rng.normal(0, 5, (height, width, 3))), 0, 255)
    return (reference + rng.normal(0, 12, reference.shape)).astype(dtype), reference.astype(np.uint8)


@pytest.fixture(scope="module")
def golden(shared: Path, assets: Path) -> Any:
    """(prediction, reference, expected values) of five PolyU crops."""
    folder = shared / "data" / "polyu" / "CroppedImages"
    entries = json.loads((assets / "metrics_polyu.json").read_text())["images"]
    return [
        (read(folder / name) * 1.02 - 1.7, read(folder / name.replace("_real", "_mean")), expected)
        for name, expected in entries.items()
    ]


@pytest.mark.parametrize(
    ("entry", "options", "tolerance"),
    [
        ("psnr", {"type": "psnr"}, 1e-4),
        ("psnr_raw", {"type": "psnr", "round": False, "clip": False}, 1e-4),
        ("ssim_y_raw", {"type": "ssim", "protocol": "y", "round": False, "clip": False}, 1e-5),
        ("ssim_gaussian11", {"type": "ssim", "protocol": "rgb"}, 1e-5),
        ("ssim_uniform7", {"type": "ssim", "protocol": "uniform7"}, 1e-5),
    ],
)
def test_published_protocols(golden: Any, entry: str, options: dict[str, Any], tolerance: float) -> None:
    metric = build_metric(options)
    for prediction, reference, expected in golden:
        assert metric(prediction, reference) == pytest.approx(expected[entry], abs=tolerance)


@pytest.mark.parametrize(
    ("protocol", "window"),
    [
        ("rgb", {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}),
        ("uniform7", {}),
    ],
)
def test_ssim_is_that_of_scikit_image(protocol: Any, window: dict[str, Any]) -> None:
    """The height needs several strips, the last one partial."""
    image, reference = pair()
    expected = structural_similarity(image, reference.astype(np.float64), data_range=255, channel_axis=2, **window)
    assert ssim(image, reference, protocol, round=False, clip=False) == pytest.approx(expected, abs=1e-9)


def test_volume_is_the_3d_definition() -> None:
    """Every one of the 11x11x11 taps summed literally, over an array with all three axes replicated."""
    image, reference = pair(height=80, width=14)
    offsets = np.mgrid[-5:6, -5:6, -5:6]
    kernel = np.exp(-(offsets**2).sum(axis=0) / (2 * 1.5**2))
    kernel /= kernel.sum()

    def mean(volume: Any) -> Any:
        windows = sliding_window_view(np.pad(volume, 5, mode="edge"), kernel.shape)
        return np.einsum("ijkabc,abc->ijk", windows, kernel)

    x, y = image, reference.astype(np.float64)
    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + 2.55**2) / (mean_x**2 + mean_y**2 + 2.55**2)
    structure = (2 * covariance + 7.65**2) / (variance_x + variance_y + 7.65**2)
    expected = float((luminance * structure).mean())
    assert ssim(image, reference, "volume", round=False, clip=False) == pytest.approx(expected, abs=1e-9)


def test_luma_is_the_studio_range_of_bt601() -> None:
    """On grey pictures luma is 16 + 219/255 v: an affine picture with the constants of peak 255."""
    grey = pair()[0][..., :1].repeat(3, axis=2)
    reference = pair()[1][..., :1].repeat(3, axis=2)
    luma, luma_reference = (16 + picture * (219 / 255) for picture in (grey, reference))
    expected = ssim(luma, luma_reference, "rgb", round=False, clip=False)
    assert ssim(grey, reference, "y", round=False, clip=False) == pytest.approx(expected, abs=1e-9)


def test_psnr_of_a_known_error() -> None:
    reference = np.full((8, 9, 3), 100, np.uint8)
    assert psnr(reference + 5.0, reference) == pytest.approx(20 * math.log10(255 / 5))


def test_rounds_half_up_and_clips() -> None:
    reference = np.zeros((4, 4, 3), np.uint8)
    assert psnr(np.full((4, 4, 3), 0.5), reference) == pytest.approx(20 * math.log10(255))
    assert psnr(np.full((4, 4, 3), 2.5), reference) == pytest.approx(20 * math.log10(255 / 3))
    assert psnr(np.full((4, 4, 3), 0.4999), reference) == math.inf
    assert psnr(np.full((4, 4, 3), -7.0), reference) == math.inf
    assert psnr(np.full((4, 4, 3), -7.0), reference, clip=False) == pytest.approx(20 * math.log10(255 / 7))
    below_half = np.full((4, 4, 3), np.nextafter(np.float32(0.5), np.float32(0)))
    assert psnr(below_half, reference) == math.inf  # 0.5 would come out of a float32 sum


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_identical_pictures(protocol: Any, dtype: type[np.generic]) -> None:
    picture = np.clip(pair()[0], 0, 255).astype(dtype)
    assert psnr(picture, picture) == math.inf
    assert ssim(picture, picture, protocol) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_float_and_8_bit_agree_and_inputs_stay(protocol: Any) -> None:
    image, reference = pair(dtype=np.float32)
    before = image.copy()
    saved = np.clip(np.floor(image.astype(np.float64) + 0.5), 0, 255).astype(np.uint8)
    assert ssim(image, reference, protocol) == ssim(saved, reference, protocol)
    assert psnr(image, reference) == psnr(saved, reference)
    assert np.array_equal(image, before)


def test_a_broken_prediction_is_not_a_number() -> None:
    image, reference = pair()
    image[3, 4, 1] = np.nan
    assert math.isnan(psnr(image, reference))
    assert math.isnan(ssim(image, reference))


def test_shapes_are_checked() -> None:
    image, reference = pair()
    with pytest.raises(UserError, match="cannot be compared"):
        psnr(image[1:], reference)
    with pytest.raises(UserError, match="cannot be compared"):
        ssim(image[..., 0], reference[..., 0])
    with pytest.raises(UserError, match="at least 11x11"):
        ssim(image[:10], reference[:10])
    assert 0 < ssim(image[:10], reference[:10], "uniform7") < 1
    assert 0 < ssim(image[:1], reference[:1], "volume") < 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"type": "psnr"}, "psnr (RGB, clipped, rounded)"),
        ({"type": "psnr", "round": False, "clip": False}, "psnr (RGB, not clipped, not rounded)"),
        ({"type": "ssim"}, "ssim (Gaussian 11x11, BT.601 luma, clipped, rounded)"),
        ({"type": "ssim", "protocol": "uniform7"}, "ssim (uniform 7x7, RGB, clipped, rounded)"),
        ({"type": "psnr", "round": "down"}, "psnr (RGB, clipped, rounded down)"),
        ({"type": "ssim", "protocol": "volume"}, "ssim (Gaussian 11x11x11, RGB volume, clipped, rounded)"),
    ],
)
def test_metric_names_its_protocol(options: dict[str, Any], text: str) -> None:
    metric = build_metric(options)
    assert metric.protocol == text
    assert metric.higher_is_better


def test_metric_passes_its_arguments_on() -> None:
    image, reference = pair()
    metric = build_metric({"type": "ssim", "protocol": "rgb", "clip": False})
    assert metric(image, reference) == ssim(image, reference, "rgb", clip=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, f"'type' is missing; name a metric: {', '.join(METRICS)}"),
        ({"type": "psrn"}, "'psrn' is not a registered metric; did you mean 'psnr'"),
        ({"type": "psnr", "protocol": "y"}, "psnr.protocol: unknown key"),
        ({"type": "psnr", "rounds": True}, "did you mean 'round'"),
        ({"type": "ssim", "protocol": "uniform"}, "ssim.protocol: 'uniform': .*'uniform7'"),
        ({"type": "ssim", "protocol": ["y"]}, "ssim.protocol"),
        ({"type": "psnr", "round": "no"}, "psnr.round: 'no': .*boolean.*'down'"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_metric(options)


def test_rounding_down_is_a_cast_to_8_bits() -> None:
    """APR-RD's: both as float32 in [0, 1], times 255, cast. The reference comes back as it was."""
    image, reference = pair(dtype=np.float32)
    unit, whole = np.clip(image, 0, 255) / np.float32(255), reference / np.float32(255)
    cast, kept = (unit * np.float32(255)).astype(np.uint8), (whole * np.float32(255)).astype(np.uint8)
    assert (kept == reference).all()
    down = build_metric({"type": "psnr", "round": "down"})(image, reference)
    assert down == pytest.approx(psnr(cast, reference), abs=1e-3)
    assert down < psnr(image, reference)


def test_what_cannot_be_measured_is_known_by_its_size() -> None:
    for options, size, message in (
        ({"type": "ssim"}, (10, 400, 3), "needs at least 11x11"),
        ({"type": "ssim"}, (400, 400, 1), "1 channels.*use protocol: channels"),
        ({"type": "ssim", "protocol": "volume"}, (400, 400, 5), "5 channels.*use protocol: channels"),
        ({"type": "ssim", "protocol": "uniform7"}, (6, 7, 1), "needs at least 7x7"),
    ):
        with pytest.raises(UserError, match=message):
            build_metric(options).check_size(*size)
    build_metric({"type": "ssim", "protocol": "rgb"}).check_size(11, 11, 5)
    build_metric({"type": "psnr"}).check_size(1, 1, 7)


def test_what_suits_the_channels() -> None:
    for name in ("y", "rgb"):
        metric = build_metric({"type": "ssim", "protocol": name, "round": "down"})
        assert metric.suited(3) is metric
        for channels in (1, 5):
            other = metric.suited(channels)
            assert other.protocol == "ssim (Gaussian 11x11, each channel, clipped, rounded down)"
            picture, reference = (np.resize(each, (64, 64, channels)) for each in pair())
            assert other(picture, reference) == ssim(picture, reference, "rgb", round="down")
    psnr_metric = build_metric({"type": "psnr"})
    assert psnr_metric.suited(5) is psnr_metric


def test_the_metric_of_the_contributing_page(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = page.partition("## Add a metric")[2]
    (tmp_path / "mae.py").write_text(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1])
    monkeypatch.setattr(METRICS, "_entries", {name: METRICS.get(name) for name in METRICS})
    load_plugin(tmp_path / "mae.py")
    metric = build_metric({"type": "mae", "clip": False})
    assert metric.protocol == "mae (RGB, not clipped, not rounded)" and not metric.higher_is_better
    image, reference = pair()
    assert metric(image, reference) == pytest.approx(np.abs(image - reference).mean())
