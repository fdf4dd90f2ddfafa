"""Each step of a camera by itself: what it computes against plain formulas, what it draws by its moments."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from atbsn.noise import camera as module
from atbsn.noise.camera import (
    RandomCamera,
    _mean_cut_off,
    _RawNoise,
    _Tone,
    inverse,
    photons,
)
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.demosaic import bayer_pattern, demosaic_bilinear, demosaic_edges, demosaic_malvar
from atbsn.noise.jpeg import jpeg, to_rgb, to_ycbcr
from atbsn.noise.prior import CameraPrior

STILL: dict[str, Any] = {
    "exposure": (1.0, 1.0), "light": (1.0, 1.0), "softened": 0.0, "recoloured": 0.0, "noiseless": 0.0, "grey": 0.0,
    "patterned": 0.0, "enlarged": 0.0, "target": "scene",
}  # fmt: skip
"""What is done to pictures is nothing; what cameras do is in their table."""
NEUTRAL = {
    "exponent": 1.0, "contrast": 0.0, "shot": 1e-3, "read": 1e-5, "clipped": 0.0, "banding": 0.0, "banding_down": 0.0,
    "hot_density": 0.0, "demosaicing": 0.0, "luma_smoothing": 0.0, "colour_smoothing": 0.0, "across": 1.0, "along": 1.0,
    "luma_unsmoothed": 0.0, "colour_unsmoothed": 0.0, "luma_gain": 1.0, "colour_gain": 1.0, "blotch_level": 0.0,
    "quality": 0.0, "subsampled": 0.0,
}  # fmt: skip


def table(count: int = 1, **changes: float | list[float]) -> CameraTable:
    """``count`` cameras without balance and colour matrix; a list has one number for each."""
    columns = {
        name: torch.as_tensor(value).float().expand(count).view(-1, 1, 1, 1)
        for name, value in (NEUTRAL | changes).items()
    }
    return CameraTable(**columns, balance=torch.ones(count, 3, 1, 1), matrix=torch.zeros(count, 6, 1, 1))


def still(cameras: CameraTable | None = None, /, **changes: Any) -> RandomCamera:
    torch.manual_seed(0)
    return RandomCamera(CameraPrior(**STILL | changes), cameras)


def srgb(linear: torch.Tensor) -> torch.Tensor:
    """IEC 61966-2-1."""
    linear = linear.clamp(0, 1)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def bell(std: float) -> torch.Tensor:
    """The nine weights of a Gaussian."""
    line = torch.exp(-((torch.arange(9.0) - 4) ** 2) / (2 * std**2)) if std else (torch.arange(9) == 4).float()
    return line / line.sum()


# What several steps use


@pytest.mark.parametrize(("value", "std"), [(0.0, 0.2), (0.1, 0.2), (-0.1, 0.05), (0.5, 0.1), (0.02, 0.02)])
def test_clipping_at_0_adds_to_the_mean(value: float, std: float) -> None:
    x = norm.ppf((np.arange(200_000) + 0.5) / 200_000, loc=value, scale=std)
    found = _mean_cut_off(torch.tensor([value]).double(), torch.tensor([std]).double())
    assert float(found) == pytest.approx(x.clip(0).mean() - value, abs=1e-6)


def test_without_noise_clipping_adds_nothing() -> None:
    assert _mean_cut_off(torch.tensor([0.0, 0.3, 1.0]), torch.zeros(3)).abs().max() < 1e-8


def test_matrices_are_inverted() -> None:
    matrices = torch.eye(3) + torch.rand(5, 3, 3, generator=torch.Generator().manual_seed(0)) / 2
    torch.testing.assert_close(inverse(matrices), torch.linalg.inv(matrices), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("value", "gain", "read"), [(0.5, 0.1, 0.0), (0.02, 0.01, 0.05), (0.0, 0.01, 0.1)])
def test_photons_are_counted_and_read_out(value: float, gain: float, read: float) -> None:
    """Mean 0, variance gain value + read^2, third moment gain^2 value."""
    torch.manual_seed(0)
    shape = (1, 1, 400, 500)
    found = photons(torch.full(shape, value), torch.full(shape, gain), torch.full((1, 1, 1, 1), read)).double()
    variance = gain * value + read**2
    assert float(found.mean()) == pytest.approx(0, abs=0.01 * variance**0.5)
    assert float(found.var()) == pytest.approx(variance, rel=0.015)
    assert float((found**3).mean()) == pytest.approx(gain**2 * value, abs=0.04 * variance**1.5)
    if not read:
        steps = (found + value) / gain
        assert (steps - steps.round()).abs().max() < 1e-4


# The tone curve


def test_a_tone_curve_is_gamma_then_an_exponent_then_an_s_curve() -> None:
    linear = torch.linspace(-0.2, 1.2, 57).expand(2, 3, 1, 57)
    exponent, contrast = (torch.tensor(pair).view(2, 1, 1, 1) for pair in ((0.85, 1.2), (0.0, 0.6)))
    v = srgb(linear) ** exponent
    expected = (1 - contrast) * v + contrast * (3 * v**2 - 2 * v**3)
    found = _Tone(exponent, contrast)(linear)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert found.min() == 0 and found.max() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("value", "std"), [(0.01, 0.02), (0.3, 0.1), (0.97, 0.05)])
def test_the_mean_over_the_noise_is_that_of_many_draws(value: float, std: float) -> None:
    """Over 600 pictures, whose nodes differ: within half a grey value, or a fiftieth of what the noise changes."""
    torch.manual_seed(0)
    tone = _Tone(torch.full((600, 1, 1, 1), 1.1), torch.full((600, 1, 1, 1), 0.4))
    noise = torch.full((600, 1, 10, 10), std)
    noise[..., ::2] *= -1
    found = tone.mean(torch.full((600, 1, 10, 10), value), noise)
    n = torch.from_numpy(norm.ppf((np.arange(20_000) + 0.5) / 20_000)).float().view(1, 1, 1, -1)
    one = _Tone(torch.tensor(1.1).view(1, 1, 1, 1), torch.tensor(0.4).view(1, 1, 1, 1))
    expected = float(one(value + std * n).mean())
    assert float(found.mean()) == pytest.approx(expected, abs=0.2 / 255)
    assert 0 < float(found.std()) < 3 / 255  # each estimate is near, and no two are alike
    assert float(one(torch.full((1, 1, 1, 1), value))) != pytest.approx(expected, abs=0.5 / 255)


def test_the_noise_around_a_pixel_is_that_of_nine_by_nine() -> None:
    """Beyond the border there is none to count; where there is no noise, the mean is the curve itself."""

    class Square(_Tone):
        def __call__(self, linear: torch.Tensor) -> torch.Tensor:
            return linear.square()

    one = torch.ones(1, 1, 1, 1)
    noise = torch.zeros(1, 1, 20, 20)
    noise[..., 10] = 0.3
    noise[..., 0, 0] = 0.5
    found = Square(one, one).mean(torch.zeros(1, 1, 20, 20), noise)[0, 0]
    expected = torch.zeros(20)
    expected[6:15] = 0.09 / 9
    torch.testing.assert_close(found[15], expected, atol=1e-6, rtol=0)
    assert float(found[0, 0]) == pytest.approx(0.25 / 25, rel=1e-4)
    assert float(found[4, 4]) == pytest.approx(0.25 / 81, rel=1e-4) and not found[5, :6].any()


# Light and colours


def test_light_is_linear_exposed_and_coloured() -> None:
    pictures = torch.tensor([10.0, 100.0, 250.0]).view(1, 3, 1, 1).expand(2, 3, 16, 16)
    camera = still(exposure=(0.5, 0.5), light=(1.2, 1.2))
    linear = ((pictures / 255 + 0.055) / 1.055) ** 2.4
    linear = torch.where(pictures / 255 <= 0.04045, pictures / 255 / 12.92, linear)
    expected = linear * 0.5 * torch.tensor([1.2, 1, 1.2]).view(1, 3, 1, 1)
    torch.testing.assert_close(camera._scene(pictures), expected, atol=1e-6, rtol=1e-5)
    assert still(exposure=(5.0, 5.0))._scene(pictures).max() == 1


def test_red_and_blue_have_factors_of_their_own() -> None:
    torch.manual_seed(0)
    red, green, blue = still()._of_red_and_blue(torch.empty(2000, 3, 1, 1), (0.5, 2.0))[..., 0, 0].T
    assert green.eq(1).all() and abs(torch.corrcoef(torch.stack([red, blue]))[0, 1]) < 0.07
    for factor in (red, blue):
        assert 0.5 <= factor.min() < 0.505 and 1.98 < factor.max() <= 2
        assert float(factor.log().mean()) == pytest.approx(0, abs=0.04)


def test_softness_is_a_blur_of_some_pictures() -> None:
    """Before the light: of gamma-corrected values."""
    pictures = torch.zeros(200, 3, 16, 16)
    pictures[..., 8] = 255
    soft = still(softened=0.4, softness=(1.0, 1.0))._scene(pictures)
    blurred = (soft[:, 0, 8, 7] > 0).float().mean()
    assert float(blurred) == pytest.approx(0.4, abs=0.1)
    (first, *_) = soft[soft[:, 0, 8, 7] > 0]
    torch.testing.assert_close(srgb(first)[:, 8, 4:13], bell(1.0).expand(3, 9), atol=2e-4, rtol=0)


def test_other_colours_are_other_orders_less_contrast_and_other_saturation() -> None:
    """Channels 118, 128 and 138 with the same stripes of 3: order, saturation and contrast can be read off."""
    pictures = torch.tensor([-10.0, 0, 10]).view(1, 3, 1, 1) + 128 + 3 * torch.tensor([1.0, -1]).repeat(8)
    pictures = pictures.expand(1200, 3, 16, 16)
    found = still(recoloured=1.0)._in_other_colours(pictures)
    means = found.mean((2, 3)) - 128
    assert {tuple(order) for order in means.argsort(dim=1).tolist()} == set(permutations(range(3)))
    saturation, contrast = means.amax(1) / 10, (found[:, 0, 0, 0] - found[:, 0, 0, 1]) / 6
    torch.testing.assert_close(means.amin(1), -means.amax(1), atol=1e-3, rtol=0)
    for value, low, high in ((saturation, 0.3, 3.0), (contrast, 0.0, 1.0)):
        room = 0.01 * (high - low)
        assert low - 1e-3 <= value.min() < low + room and high - room < value.max() <= high + 1e-3
        assert float(value.mean()) == pytest.approx((low + high) / 2, rel=0.04)
    some = still(recoloured=0.3)._in_other_colours(pictures)
    assert float((some != pictures).flatten(1).any(1).float().mean()) == pytest.approx(0.3, abs=0.05)
    vivid = torch.tensor([0.0, 128, 255]).view(1, 3, 1, 1).expand(300, 3, 16, 16)
    found = still(recoloured=1.0)._in_other_colours(vivid)
    assert found.min() == 0 and found.max() == 255


def test_patterns_cover_their_share_of_the_pictures() -> None:
    flat = torch.full((150, 3, 32, 32), 90.0)
    scene = still(patterned=0.4)._scene(flat)
    changed = (scene != scene[..., :1, :1]).flatten(1).any(1) | (
        scene[:, 0, 0, 0] != still()._scene(flat[:1])[0, 0, 0, 0]
    )
    assert float(changed.float().mean()) == pytest.approx(0.4 * 0.95, abs=0.1)


# Noise of the sensor


Function = Callable[..., torch.Tensor]


@pytest.fixture
def on_the_mosaic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bilinear demosaicing leaves the mosaic as it is."""
    monkeypatch.setattr(module, "demosaic_bilinear", lambda sites, bayer: sites.expand_as(bayer))


def of_sensor(monkeypatch: pytest.MonkeyPatch, noise: Function) -> None:
    monkeypatch.setattr(module, "photons", noise)


VALUES = torch.tensor([0.2, 0.4, 0.6])
"""Linear red, green and blue of a flat picture, by which pixels of a mosaic are known."""


def flat(count: int = 1, side: int = 16) -> torch.Tensor:
    return VALUES.view(1, 3, 1, 1).expand(count, 3, side, side).contiguous()


def balanced(cameras: CameraTable) -> CameraTable:
    return replace(cameras, balance=torch.tensor([2.0, 1.0, 1.5]).view(1, 3, 1, 1).expand(len(cameras), 3, 1, 1))


@pytest.mark.usefixtures("on_the_mosaic")
def test_white_balance_raises_the_noise_of_the_mosaic(monkeypatch: pytest.MonkeyPatch) -> None:
    """a and the deviation of b are multiplied by the gain of the colour that a pixel measures."""
    seen: list[torch.Tensor] = []

    def noise(value: torch.Tensor, gain: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
        seen.append(value)
        return 0.1 * value + 10 * gain + read

    of_sensor(monkeypatch, noise)
    raw = still()._raw_noise(flat(), balanced(table(shot=1e-3, read=4e-4)))
    mosaic = seen[0]  # and then those of cameras with three sensors
    assert {round(float(value), 4) for value in mosaic.unique()} == {0.2, 0.4, 0.6}
    assert [int(mosaic.sub(value).abs().lt(1e-4).sum()) for value in VALUES.tolist()] == [64, 128, 64]
    gain = 2.0 * (mosaic < 0.3) + 1.0 * ((mosaic > 0.3) & (mosaic < 0.5)) + 1.5 * (mosaic > 0.5)
    expected = 0.1 * mosaic + 10 * 1e-3 * gain + 0.02 * gain
    torch.testing.assert_close(raw.noise + raw.bias, expected.expand_as(raw.noise), atol=1e-6, rtol=0)
    assert not raw.hot.any()


@pytest.mark.usefixtures("on_the_mosaic")
@pytest.mark.parametrize("clipped", [0.0, 1.0])
def test_the_bias_is_the_mean_of_what_clipping_leaves(monkeypatch: pytest.MonkeyPatch, clipped: float) -> None:
    """At white always, at black where the camera clips: Gaussian noise of variance gain a x + gain^2 b, cut off."""
    of_sensor(monkeypatch, lambda value, gain, read: torch.randn_like(value) * (value * gain + read**2).sqrt())
    linear = torch.tensor([0.05, 0.02, 0.9]).view(1, 3, 1, 1).expand(1, 3, 256, 256)
    raw = still()._raw_noise(linear, balanced(table(shot=1e-2, read=4e-4, clipped=clipped)))
    noise, bias = raw.noise[0, 0], raw.bias[0, 0]
    values, where = bias.round(decimals=6).unique(return_inverse=True)
    expected = []
    for value, gain in ((0.05, 2.0), (0.02, 1.0), (0.9, 1.5)):
        x = norm.ppf(
            (np.arange(100_000) + 0.5) / 100_000, loc=value, scale=(1e-2 * value * gain + 4e-4 * gain**2) ** 0.5
        )
        expected.append(float(x.clip(0 if clipped else None, 1).mean() - value))
    assert values.tolist() == pytest.approx(sorted({round(each, 7) for each in expected}), abs=2e-5)
    for number in range(len(values)):
        own = noise[where == number]
        assert float(own.mean()) == pytest.approx(0, abs=5 * float(own.std()) / len(own) ** 0.5)
    darkest = noise[where == int((values - expected[1]).abs().argmin())]
    assert (float((darkest + expected[1] + 0.02).min()) > -1e-5) == bool(clipped)
    assert float((noise + bias)[where == int((values - expected[2]).abs().argmin())].max()) <= 0.1 + 1e-6


@pytest.mark.usefixtures("on_the_mosaic")
def test_hot_pixels_reach_up_to_white(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of the pixels rises to a uniform number, where that is more: (1 - x)^2 / 2 in the mean."""
    of_sensor(monkeypatch, lambda value, gain, read: torch.zeros_like(value))
    linear = torch.full((1, 3, 256, 256), 0.3)
    for share in (1.0, 0.25):
        hot = still()._raw_noise(linear, table(hot_density=share)).hot
        assert hot.min() >= 0 and 0.69 < hot.max() <= 0.7
        assert float(hot[:, 0].mean()) == pytest.approx(share * 0.49 / 2, rel=0.04)
        assert float((hot[:, 0] > 0).float().mean()) == pytest.approx(share * 0.7, rel=0.03)


@pytest.mark.usefixtures("on_the_mosaic")
def test_banding_is_measured_in_noise_at_a_raw_value_of_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row has an offset, or each column; white balance raises it, too."""
    of_sensor(monkeypatch, lambda value, gain, read: torch.zeros_like(value))
    cameras = table(60, banding=0.5, banding_down=[0.0, 1.0] * 30, shot=1e-2, read=4e-4)
    cameras = replace(cameras, balance=torch.full((60, 3, 1, 1), 1.5))
    raw = still()._raw_noise(torch.full((60, 3, 64, 64), 0.5), cameras)
    noise = (raw.noise + raw.bias)[:, 0]
    rows, columns = noise[::2], noise[1::2]
    assert (rows == rows[..., :1]).all() and (columns == columns[:, :1]).all()
    expected = 0.5 * 1.5 * (0.1 * 1e-2 + 4e-4) ** 0.5
    assert [float(rows.std()), float(columns.std())] == pytest.approx([expected] * 2, rel=0.05)


def test_three_sensors_have_no_mosaic_and_the_matrix_mixes_their_noise() -> None:
    """Covariance M D M^T, D being gain a x + gain^2 b of what the camera sees of the colour, the inverse of M."""
    cameras = balanced(table(shot=1e-2, read=1e-4, demosaicing=3.0))
    off = torch.tensor([-0.4, 0.1, -0.2, -0.3, 0.05, -0.5])
    cameras = replace(cameras, matrix=off.view(1, 6, 1, 1))
    matrix = torch.tensor([[1.3, -0.4, 0.1], [-0.2, 1.5, -0.3], [0.05, -0.5, 1.45]]).double()
    seen = torch.linalg.inv(matrix) @ torch.tensor([0.3, 0.35, 0.4]).double()
    gain = torch.tensor([2, 1, 1.5]).double()
    expected = matrix @ torch.diag(gain * 1e-2 * seen + gain**2 * 1e-4) @ matrix.T
    linear = torch.tensor([0.3, 0.35, 0.4]).view(1, 3, 1, 1).expand(1, 3, 256, 256)
    noise = still(demosaicing=(0.0, 0.0, 0.0, 1.0))._raw_noise(linear, cameras).noise[0].flatten(1).double()
    torch.testing.assert_close(torch.cov(noise), expected, rtol=0.04, atol=2e-4)
    assert abs(float((noise[1, 1:] * noise[1, :-1]).mean() / noise[1].var())) < 0.02


def test_a_noiseless_picture_has_no_noise_of_any_kind() -> None:
    cameras = table(3, banding=1.0, hot_density=1.0, clipped=1.0, shot=1e-2)
    raw = still(noiseless=1.0)._raw_noise(torch.full((3, 3, 16, 16), 0.01), cameras)
    assert max(float(part.abs().max()) for part in (raw.noise, raw.bias, raw.hot)) < 1e-6
    some = still(noiseless=0.3)._raw_noise(torch.full((300, 3, 16, 16), 0.5), table(300))
    assert float(some.noise.flatten(1).any(1).float().mean()) == pytest.approx(0.7, abs=0.08)


def test_three_sensors_have_no_noise_either_where_a_picture_has_none() -> None:
    raw = still(noiseless=1.0)._raw_noise(torch.full((2, 3, 16, 16), 0.5), table(2, demosaicing=3.0))
    assert not raw.noise.any()


def test_cameras_of_a_table_may_have_three_sensors_where_the_prior_has_none() -> None:
    """And where neither has, no noise is drawn for them."""
    cameras = table(2, demosaicing=3.0, shot=1e-2)
    linear = torch.full((2, 3, 64, 64), 0.5)
    only: dict[str, Any] = {"demosaicing": (1.0, 0.0, 0.0, 0.0)}
    assert float(still(cameras, **only)._raw_noise(linear, cameras).noise.var()) == pytest.approx(5e-3, rel=0.05)
    assert not still(**only)._raw_noise(linear, cameras).noise.any()


@pytest.mark.usefixtures("on_the_mosaic")
def test_what_the_sensor_cannot_hold_is_white(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inverse of a matrix may make more than white of red."""
    values: list[torch.Tensor] = []

    def noise(value: torch.Tensor, gain: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
        values.append(value)
        return torch.zeros_like(value)

    of_sensor(monkeypatch, noise)
    cameras = replace(table(), matrix=torch.tensor([0.4, 0.0, -0.2, 0.0, 0.0, -0.2]).view(1, 6, 1, 1))
    linear = torch.tensor([1.0, 0.0, 0.3]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    inverted = torch.linalg.inv(torch.tensor([[0.6, 0.4, 0], [-0.2, 1.2, 0], [0, -0.2, 1.2]])) @ linear[0, :, 0, 0]
    assert inverted.max() > 1.2 and len(still()._raw_noise(linear, cameras).noise) == 1
    assert values[0].amax() == 1 and values[0].unique().tolist() == pytest.approx(
        inverted.clamp(0, 1).sort().values.tolist()
    )


def test_every_camera_demosaics_in_its_own_way() -> None:
    """Two at a time: each picture as it is where its way is the only one."""
    sites = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    bayer = bayer_pattern(torch.arange(4), 16, 16)
    kinds = torch.arange(4.0).view(4, 1, 1, 1)
    ways = (demosaic_bilinear, demosaic_edges, demosaic_malvar)
    expected = torch.cat(
        [*(way(sites, bayer)[place][None] for place, way in enumerate(ways)), torch.zeros(1, 3, 16, 16)]
    )
    assert torch.equal(still()._demosaiced(sites, bayer, kinds), expected)
    assert torch.equal(still(table(4))._demosaiced(sites, bayer, kinds), expected)
    left_out = still(demosaicing=(0.5, 0.0, 0.5, 0.0))._demosaiced(sites, bayer, kinds)
    assert torch.equal(left_out[[0, 2]], expected[[0, 2]]) and not left_out[[1, 3]].any()


# What is done to the noise


def noise_of(luma: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    return torch.cat((luma, colour), dim=1)


def test_noise_that_is_not_smoothed_has_only_its_gains() -> None:
    difference = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = still(blotches=0.0)._smoothed(
        difference, table(2, luma_gain=[1.0, 0.5], colour_gain=[2.0, 0.0], colour_smoothing=0.14)
    )
    torch.testing.assert_close(found[:, :1], difference[:, :1] * torch.tensor([1.0, 0.5]).view(2, 1, 1, 1))
    torch.testing.assert_close(found[:, 1:], difference[:, 1:] * torch.tensor([2.0, 0.0]).view(2, 1, 1, 1))


def test_luma_is_smoothed_across_and_along_and_keeps_its_level() -> None:
    luma = torch.zeros(1, 1, 32, 32)
    luma[..., 16, 16] = 1
    cameras = table(luma_smoothing=1.5, across=0.5, along=1.0, luma_unsmoothed=0.25, luma_gain=0.8)
    found = still(blotches=0.0)._smoothed(noise_of(luma, torch.zeros(1, 2, 32, 32)), cameras)[0, 0]
    expected = torch.zeros(32, 32)
    expected[12:21, 12:21] = 0.75 * torch.outer(bell(1.5), bell(0.75))
    expected[16, 16] += 0.25
    torch.testing.assert_close(found, expected / expected.norm() * 0.8, atol=1e-5, rtol=0)


def test_colour_is_smoothed_at_half_the_resolution_and_keeps_its_level() -> None:
    """A mean of 2 x 2, a bell, and back by 3/4 and 1/4."""
    colour = torch.zeros(1, 2, 32, 32)
    colour[0, 1, 16:18, 16:18] = 1
    cameras = table(colour_smoothing=0.8, colour_unsmoothed=0.25, colour_gain=0.6)
    found = still(blotches=0.0)._smoothed(noise_of(torch.zeros(1, 1, 32, 32), colour), cameras)[0]
    half = torch.zeros(16)
    half[4:13] = bell(0.8)
    padded = torch.cat([half[:1], half, half[-1:]])
    line = torch.stack([0.75 * half + 0.25 * padded[:-2], 0.75 * half + 0.25 * padded[2:]], dim=1).flatten()
    expected = 0.75 * torch.outer(line, line) + 0.25 * colour[0, 1]
    torch.testing.assert_close(found[2], expected / expected.norm() * 2 * 0.6, atol=1e-5, rtol=0)
    assert not found[:2].any()


def test_hardly_any_smoothing_of_colour_is_none() -> None:
    """0.15 pixels: less than going to half the resolution and back would change."""
    difference = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = still(blotches=0.0)._smoothed(difference, table(2, colour_smoothing=[0.15, 0.16]))
    assert torch.allclose(found[0], difference[0], atol=1e-6) and not torch.allclose(found[1], difference[1], atol=0.1)


def test_blotches_are_smooth_colour_as_strong_as_their_share_of_the_noise() -> None:
    """Random numbers every 16 pixels, beginning at 7.5; between them straight lines."""
    difference = torch.full((400, 3, 64, 64), 2.0)
    found = still(blotches=1.0)._smoothed(difference, table(400, blotch_level=0.3))
    assert torch.equal(found[:, :1], difference[:, :1])
    blotches = found[:, 1:] - difference[:, 1:]
    assert blotches[..., 8:24].diff(n=2).abs().max() < 1e-4 < blotches[..., 20:28].diff(n=2).abs().max()
    nodes = (blotches[..., 7::16, 7::16] + blotches[..., 8::16, 8::16]) / 2
    assert nodes.shape[-2:] == (4, 4) and float(nodes.std()) == pytest.approx(0.3 * 2 * (31 / 32) ** 2, rel=0.03)
    assert (
        abs(float((nodes[..., 1:] * nodes[..., :-1]).mean())) < 0.05
        and abs(float((nodes[:, 0] * nodes[:, 1]).mean())) < 0.02
    )
    plain = still(blotches=0.0)._smoothed(difference, table(400, blotch_level=0.3))
    torch.testing.assert_close(plain, difference)  # no camera of this prior has any
    assert not torch.equal(still(table(1), blotches=0.0)._smoothed(difference[:1], table(blotch_level=0.3)), plain[:1])


# The whole picture


def test_black_and_white_is_luma_or_green() -> None:
    generator = torch.Generator().manual_seed(0)
    noisy, clean = (torch.rand(600, 3, 2, 2, generator=generator) * 255 for _ in range(2))
    found = still(grey=0.5)._in_grey(noisy, clean)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    kinds = []
    for before, after in ((noisy, found[0]), (clean, found[1])):
        luma = (before * weights).sum(1, keepdim=True).expand_as(before)
        ways = (before, luma, before[:, 1:2].expand_as(before))
        kinds.append(torch.stack([(after - way).abs().flatten(1).amax(1) < 1e-3 for way in ways], dim=1))
    assert torch.equal(*kinds) and kinds[0].sum(1).eq(1).all()  # both pictures in the same way
    assert kinds[0].float().mean(0).tolist() == pytest.approx([0.5, 0.25, 0.25], abs=0.06)


def test_an_enlargement_is_the_middle_by_a_factor() -> None:
    """A ramp becomes flatter by it around the middle of the picture, in both pictures, whichever way it runs."""
    row = torch.arange(32.0).expand(1, 3, 32, 32) * 4
    noisy, clean = row.repeat(300, 1, 1, 1), 200 - row.transpose(2, 3).repeat(300, 1, 1, 1)
    found = still(enlarged=0.4, enlargement=(2.0, 4.0))._enlarged(noisy, clean)
    slopes = (found[0][:, 0, 16, 27] - found[0][:, 0, 16, 4]) / 23
    changed = slopes < 3.9
    assert float(changed.float().mean()) == pytest.approx(0.4, abs=0.08)
    factors = 4 / slopes[changed]
    assert 1.95 < factors.min() < 2.1 and 3.8 < factors.max() < 4.1
    assert float(factors.log2().mean()) == pytest.approx(1.5, abs=0.1)
    middle = 4 * 15.5 + (torch.arange(32) - 15.5) * 4 / factors[:, None]
    torch.testing.assert_close(found[0][changed][:, 0, 5], middle, atol=0.7, rtol=0)
    torch.testing.assert_close(found[1][changed][:, 2, :, 9], 200 - middle, atol=0.7, rtol=0)
    torch.testing.assert_close(found[0][~changed], noisy[~changed])
    both = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 100 + 80
    for ours, picture in zip(still(enlarged=1.0, enlargement=(2.0, 2.0))._enlarged(*both), both, strict=True):
        whole = torch.nn.functional.interpolate(picture, scale_factor=2, mode="bicubic")
        torch.testing.assert_close(ours, whole[..., 16:48, 16:48], atol=0.01, rtol=0)
    bright = torch.zeros(4, 3, 32, 32)
    bright[..., 16:] = 255
    sharp, _ = still(enlarged=1.0, enlargement=(2.0, 2.0))._enlarged(bright, bright)
    assert sharp.min() == 0 and sharp.max() == 255  # bicubic interpolation would go beyond


def taken(
    monkeypatch: pytest.MonkeyPatch, raw: tuple[float, float, float], cameras: CameraTable, **changes: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """A flat picture where the sensor adds ``raw``: noise (of alternating sign), bias and hot pixels."""
    sign = 1 - 2.0 * (torch.arange(64) % 2)

    def noise(self: RandomCamera, linear: torch.Tensor, cameras: CameraTable) -> _RawNoise:
        return _RawNoise(
            raw[0] * sign * torch.ones_like(linear), raw[1] * torch.ones_like(linear), raw[2] * torch.ones_like(linear)
        )

    monkeypatch.setattr(RandomCamera, "_raw_noise", noise)
    pictures = torch.tensor([40.0, 90.0, 200.0]).view(1, 3, 1, 1).expand(len(cameras), 3, 64, 64)
    return still(blotches=0.0, **{"compressed": 0.0} | changes).taken(pictures, cameras)


LINEAR = ((torch.tensor([40.0, 90.0, 200.0]) / 255 + 0.055) / 1.055) ** 2.4


@pytest.mark.parametrize("raw", [(0.05, 0.0, 0.0), (0.0, 0.03, 0.0), (0.02, -0.01, 0.1)])
def test_the_noisy_picture_is_the_curve_of_all_that_the_sensor_adds(
    monkeypatch: pytest.MonkeyPatch, raw: tuple[float, float, float]
) -> None:
    """Rounded to whole grey values. ``scene`` is the curve of the scene; ``mean`` knows of the bias and the noise."""
    cameras = table(exponent=1.1, contrast=0.3)
    tone = _Tone(cameras.exponent, cameras.contrast)
    noisy, clean = taken(monkeypatch, raw, cameras)
    linear = LINEAR.view(1, 3, 1, 1).expand(1, 3, 64, 64)
    torch.testing.assert_close(clean, 255 * tone(linear), atol=1e-3, rtol=0)
    sign = 1 - 2.0 * (torch.arange(64) % 2)
    expected = 255 * tone(linear + raw[0] * sign + raw[1] + raw[2])
    assert (noisy - expected).abs().max() < 0.51 and torch.equal(noisy, noisy.round())
    same, mean = taken(monkeypatch, raw, cameras, target="mean")
    torch.testing.assert_close(same, noisy, atol=1, rtol=0)
    both = [tone(linear + raw[1] + side * abs(raw[0]) * torch.linspace(0, 3, 9).mean()) for side in (-1, 1)]
    assert (mean >= 255 * both[0] - 1.5).all() and (mean <= 255 * both[1] + 1.5).all()


def test_noisy_pictures_stay_between_black_and_white(monkeypatch: pytest.MonkeyPatch) -> None:
    for bias, value in ((2.0, 255.0), (-2.0, 0.0)):
        noisy, _ = taken(monkeypatch, (0.0, bias, 0.0), table(luma_gain=3.0))
        assert noisy.eq(value).all()


def test_only_cameras_with_a_quality_save_a_jpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each as its own quality says; and none where the prior has no share of them."""
    cameras = table(3, quality=[0.0, 30.0, 90.0], subsampled=[0.0, 0.0, 1.0])
    raw = (0.1, 0.0, 0.0)
    plain, _ = taken(monkeypatch, raw, cameras)
    noisy, _ = taken(monkeypatch, raw, cameras, compressed=0.5)
    torch.testing.assert_close(noisy[0], plain[0])
    compressed, other = (
        jpeg(plain, torch.tensor(qualities), torch.tensor(subsampled))
        for qualities, subsampled in (([1.0, 30, 90], [False, False, True]), ([1.0, 90, 30], [False, True, False]))
    )
    for place in (1, 2):
        off, far = ((noisy - jpegs)[place].abs().mean() for jpegs in (compressed, other))
        assert off < 2.5 and far > 8  # ``plain`` was rounded before, so it is not quite the same
    assert torch.equal(noisy, noisy.round())


def test_smoothing_is_that_of_luma_and_colour_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise without colour stays when colour is taken off, and noise without luma when luma is."""
    noisy, clean = taken(monkeypatch, (0.05, 0.0, 0.0), table(2, luma_gain=[0.0, 1.0], colour_gain=[1.0, 0.0]))
    luma, colour = to_ycbcr(noisy - clean).split([1, 2], dim=1)
    assert luma[0].abs().max() < 0.6 and colour[1].abs().max() < 0.8 and luma[1].abs().max() > 3
    assert colour[0].abs().max() > 1
    whole, _ = taken(monkeypatch, (0.05, 0.0, 0.0), table())
    torch.testing.assert_close(clean[:1] + to_rgb(torch.cat((luma[1:], colour[:1]), dim=1)), whole, atol=2, rtol=0)


def test_a_table_gives_cameras_and_the_prior_the_light() -> None:
    """Each picture has a row, with a gain up to 1.5 times as high or low: a changes with it, b with its square."""
    cameras = table(3, shot=[1e-3, 2e-3, 4e-3], read=[1e-5, 4e-5, 16e-5], quality=[0.0, 50.0, 90.0])
    drawn = still(cameras)._drawn(torch.empty(3000, 3, 16, 16))
    rows = (drawn.quality.flatten() / 45).round().long()
    assert rows.bincount().tolist() == pytest.approx([1000] * 3, abs=120)
    gain = drawn.shot.flatten() / cameras.shot.flatten()[rows]
    torch.testing.assert_close(drawn.read.flatten() / cameras.read.flatten()[rows], gain.square())
    assert 1 / 1.5 <= gain.min() < 0.67 and 1.49 < gain.max() <= 1.5 + 1e-5
    assert float(gain.log().mean()) == pytest.approx(0, abs=0.02)


def test_pictures_of_16_pixels_are_the_smallest_and_nothing_is_differentiated() -> None:
    assert RandomCamera.size_multiple == 16
    pictures = torch.full((2, 3, 16, 32), 90.0, requires_grad=True)
    torch.manual_seed(0)
    for made in (RandomCamera()(pictures), still().taken(pictures, table(2))):
        assert all(picture.shape == (2, 3, 16, 32) and not picture.requires_grad for picture in made)
