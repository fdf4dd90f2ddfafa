"""The noise model's tables, scales and limits, in numbers; its fields have the right statistics in test_sampling."""

import copy
import math
import pickle
from typing import Any

import pytest
import torch

from atbsn.noise.clipping import unclipped_levels
from atbsn.noise.model import MAX_CHANNELS, NoiseModel, local_mean
from atbsn.utils.errors import UserError

CPU = torch.device("cpu")


def model(channels: int = 2, **buffers: Any) -> NoiseModel:
    made = NoiseModel(channels)
    for name, value in ({"levels": torch.linspace(4, 20, 17).expand(channels, -1)} | buffers).items():
        getattr(made, name).copy_(torch.as_tensor(value))
    return made


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_new_model_is_white_noise_of_level_0() -> None:
    fresh = NoiseModel(4)
    assert NoiseModel().channels == 3 and fresh.channels == 4
    assert fresh.levels.shape == (4, 17) and not fresh.levels.any()
    assert fresh.kurtosis == 3 and fresh.spread == 0
    centre = fresh.correlation[:, :, 4, 4]
    assert torch.equal(centre, torch.eye(4)) and fresh.correlation.abs().sum() == 4
    assert fresh.correlation.shape == (4, 4, 9, 9)


def test_levels_are_linear_between_the_knots_and_looked_up_in_quarters_of_a_grey_value() -> None:
    """16 / 255 a grey value, from 4; each channel has a curve of its own."""
    made = model(levels=torch.stack([torch.linspace(4, 20, 17), torch.linspace(30, 10, 17)]))
    values = torch.tensor([-5.0, 0, 0.3, 7.9, 100, 254.8, 255, 270])
    seen = torch.tensor([0, 0, 0.25, 8, 100, 254.75, 255, 255])
    found = made.level(values.expand(1, 2, 1, -1))[0, :, 0]
    expected = torch.stack([4 + 16 * seen / 255, 30 - 20 * seen / 255])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert made.level(values.double().expand(3, 2, 1, -1)).dtype == torch.float64


def test_levels_before_clipping_are_those_that_give_the_levels_after_it() -> None:
    made = model()
    values = torch.tensor([0.0, 3, 128, 252, 255])
    found = made.level(values.expand(1, 2, 1, -1), clipped=False)[0, 0, 0]
    seen = torch.linspace(4, 20, 1021)[None]
    torch.testing.assert_close(found, unclipped_levels(seen)[0, (values * 4).long()], rtol=1e-3, atol=1e-3)
    assert found[0] > 1.5 * 4 and found[2] == pytest.approx(4 + 16 * 128 / 255, rel=1e-3)


def test_the_mean_level_is_a_root_mean_square_over_pixels_and_then_over_pictures() -> None:
    made = model(levels=torch.linspace(0, 255, 17).expand(2, -1))  # the level is the intensity
    first = torch.tensor([30.0, 40]).view(1, 1, 2).expand(2, 1, 2)
    second = torch.full((2, 5, 5), 10.0)
    assert made.mean_level([first]) == pytest.approx(((900 + 1600) / 2) ** 0.5)
    assert made.mean_level(iter([first, second])) == pytest.approx((((900 + 1600) / 2 + 100) / 2) ** 0.5)
    assert isinstance(made.mean_level([first]), float)


def test_a_sample_is_a_field_times_the_level_times_the_scale() -> None:
    made = model(kurtosis=4.0)
    clean = torch.linspace(0, 255, 48).expand(3, 2, 24, 48)
    fields = made.fields(3, 24, 48, CPU, generator())
    torch.testing.assert_close(made.sample(clean, generator()), fields * made.level(clean))
    torch.testing.assert_close(
        made.sample(clean, generator(), clipped=False), fields * made.level(clean, clipped=False)
    )
    torch.testing.assert_close(made.sample(clean, generator(), 3.0), 3 * fields * made.level(clean))
    scales = torch.tensor([0.0, 0.5, 2])
    expected = scales.view(3, 1, 1, 1) * fields * made.level(clean)
    torch.testing.assert_close(made.sample(clean, generator(), scales), expected)
    each = torch.rand(3, 1, 24, 48, generator=generator(1))
    torch.testing.assert_close(made.sample(clean, generator(), each), each * fields * made.level(clean))
    assert made.sample(clean.double(), generator()).dtype == torch.float64


def test_small_fields_are_the_corner_of_a_torus_of_16() -> None:
    """A torus has to hold all lags, -4 to 4; one that fits exactly is periodic."""
    made = model()
    whole = made.fields(2, 16, 16, CPU, generator())
    assert torch.equal(made.fields(2, 7, 16, CPU, generator()), whole[:, :, :7])
    assert torch.equal(made.fields(2, 16, 3, CPU, generator()), whole[..., :3])
    taller = made.fields(2, 18, 16, CPU, generator())
    assert taller.shape == (2, 2, 18, 16) and not torch.equal(taller[:, :, :16], whole)


def test_heavy_tails_are_a_log_normal_scale_of_unit_power() -> None:
    """u = exp(s z - s^2), E[u^2] = 1, with s^2 = ln(kurtosis / 3) / 4; without it, the fields are the Gaussian ones."""
    plain, heavy = model(), model(kurtosis=3 * math.e)  # s = 1/2
    gaussian = plain.fields(4, 32, 48, CPU, generator())
    scales = (heavy.fields(4, 32, 48, CPU, generator()) / gaussian)[:, 0]
    torch.testing.assert_close(
        scales, (heavy.fields(4, 32, 48, CPU, generator()) / gaussian)[:, 1], rtol=1e-3, atol=1e-3
    )
    many = heavy.fields(3000, 1, 1, CPU, generator()) / plain.fields(3000, 1, 1, CPU, generator())
    logs = many[:, 0, 0, 0].log()
    assert float(logs.mean()) == pytest.approx(-0.25, abs=0.04) and float(logs.std()) == pytest.approx(0.5, abs=0.03)


def test_large_fields_are_faded_from_pieces_of_512() -> None:
    """512 pixels are drawn at once, 513 are not: then opposite borders differ. Over 64 pixels, two pieces are mixed."""
    ramp = torch.zeros(1, 1, 9, 9)
    ramp[0, 0, 4, 4], ramp[0, 0, 4, 3], ramp[0, 0, 4, 5] = 1, 0.5, 0.5
    made = model(1, correlation=ramp)
    at_once = made.fields(1, 16, 512, CPU, generator())
    assert float((at_once[..., 0] * at_once[..., -1]).mean()) > 0.2  # neighbours, across the border
    large = made.fields(1, 512, 700, CPU, generator())
    first = made._torus(1, 512, 512, CPU, draws := generator())
    second = made._torus(1, 512, 512, CPU, draws)
    assert torch.equal(large[..., :448], first[..., :448]) and torch.equal(large[..., 512:], second[..., 64:252])
    angle = (torch.arange(64) + 0.5) * math.pi / 128
    mixed = first[..., 448:] * angle.cos() + second[..., :64] * angle.sin()
    torch.testing.assert_close(large[..., 448:512], mixed)
    tall = made.fields(1, 700, 16, CPU, generator())
    torch.testing.assert_close(tall[:, :, :448], first[:, :, :448, :16])
    torch.testing.assert_close(tall[:, :, 512:], second[:, :, 64:252, :16])


def test_what_is_computed_from_the_buffers_is_kept_until_they_change() -> None:
    """At most eight results, so that pictures of many sizes do not fill the memory."""
    made = model()
    table = made._table(CPU, True)
    made.fields(1, 16, 16, CPU)
    assert made._table(CPU, True) is table and made._table(CPU, False) is not table
    made.levels.mul_(2)
    assert made._table(CPU, True) is not table
    torch.testing.assert_close(made._table(CPU, True), 2 * table)
    sizes = []
    for side in range(16, 46):
        made._cached(("size", side), lambda: 0)
        sizes.append(len(made._made))
    assert max(sizes) == 8 and made._table(CPU, True).shape == (2, 1021)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_copies_carry_the_buffers_and_not_what_is_computed_from_them(again: Any) -> None:
    made = model(kurtosis=5.0)
    made.sample(torch.full((1, 2, 16, 16), 90.0))
    other = again(made)
    assert made._made and not other._made and other.to_dict() == made.to_dict()
    assert torch.equal(*(each.sample(torch.full((1, 2, 16, 16), 90.0), generator()) for each in (made, other)))


def test_a_dictionary_has_five_decimals_and_its_own_number_of_channels() -> None:
    made = model(5, spread=0.123456789, kurtosis=3.5)
    values = made.to_dict()
    assert list(values) == ["levels", "correlation", "kurtosis", "spread"]
    assert values["spread"] == pytest.approx(0.12346, abs=1e-7) and values["levels"][4][16] == 20
    again = NoiseModel.from_dict(values)
    assert again.channels == 5 and again.to_dict() == values
    assert NoiseModel.from_dict(NoiseModel(MAX_CHANNELS).to_dict()).channels == MAX_CHANNELS == 16
    assert NoiseModel.from_dict(NoiseModel(1).to_dict()).channels == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"levels": []}, r"levels of shape \(0,\): finite numbers of shape \(3, 17\) are needed"),
        ({"levels": [[1.0] * 17] * 17}, r"levels of shape \(17, 17\): .* of shape \(3, 17\)"),
        ({"levels": [[-1.0] + [1.0] * 16] * 3}, "must not be negative"),
        ({"levels": {"a": 1}}, "levels is not an array of numbers; estimate it again"),
        ({"kurtosis": 2.99}, "nor the kurtosis below 3"),
        ({"spread": -0.01}, "must not be negative"),
        ({"spread": float("inf")}, r"spread of shape \(\): finite numbers"),
        ({"more": 1}, r"noise model with \['correlation', 'kurtosis', 'levels', 'more', 'spread'\]"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        NoiseModel.from_dict(NoiseModel().to_dict() | change)


def test_the_limits_themselves_are_right() -> None:
    edge = NoiseModel().to_dict() | {"kurtosis": 3, "spread": 0, "levels": [[0.0] * 17] * 3}
    assert NoiseModel.from_dict(edge).kurtosis == 3


def test_the_local_mean_is_a_gaussian_window_of_two_pixels() -> None:
    """Within 4 pixels; of each channel of each picture by itself."""
    impulse = torch.zeros(2, 3, 21, 21)
    impulse[1, 2, 10, 10] = 1
    found = local_mean(impulse)
    line = torch.exp(-((torch.arange(21.0) - 10) ** 2) / 8) * ((torch.arange(21) - 10).abs() <= 4)
    torch.testing.assert_close(found[1, 2], torch.outer(line, line) / line.sum() ** 2)
    assert found.sum() == pytest.approx(1) and not found[0].any() and not found[1, :2].any()


def test_nothing_is_differentiated() -> None:
    clean = torch.full((1, 2, 16, 16), 90.0, requires_grad=True)
    made = model()
    assert not made.level(clean).requires_grad and not made.sample(clean).requires_grad
    made.correlation.requires_grad_()
    assert not made.fields(1, 16, 16, CPU).requires_grad
