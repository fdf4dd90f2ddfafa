"""What is drawn has the statistics of the model."""

import copy
import io
import json
import math
from typing import Any

import pytest
import torch

from atbsn.noise import NoiseModel
from atbsn.noise.clipping import moments_after_clipping
from atbsn.noise.sampling import REACH, fade, spectrum, swell, transfer, white_to_field
from atbsn.utils.errors import UserError

CPU = torch.device("cpu")


def known_model(kurtosis: float = 3) -> NoiseModel:
    """Level 4 in the dark to 20 in the bright, wider in red, correlated over space and colours."""
    model = NoiseModel()
    lags = torch.arange(-REACH, REACH + 1.0)
    space = torch.exp(-(lags[:, None] ** 2) / 3 - lags**2 / 2)
    colours = torch.tensor([[1, 0.3, 0.5], [0.3, 1, 0.2], [0.5, 0.2, 1]])
    model.correlation.copy_(colours[:, :, None, None] * space)
    model.levels.copy_(torch.linspace(4, 20, 17) * torch.tensor([1.5, 1, 1.2])[:, None])
    model.kurtosis.fill_(kurtosis)
    return model


def correlations(noise: torch.Tensor, down: int, across: int) -> torch.Tensor:
    """(3, 3) mean of noise_i(p) noise_j(p + (down, across))."""
    height, width = noise.shape[2] - down, noise.shape[3] - across
    first, second = noise[:, :, :height, :width], noise[:, :, down:, across:]
    return torch.einsum("bihw,bjhw->ij", first, second) / first[:, 0].numel()


@pytest.mark.parametrize(("batch", "height", "width"), [(80, 128, 128), (40, 96, 251), (2, 530, 1200)])
def test_fields_have_the_models_correlation(batch: int, height: int, width: int) -> None:
    model = known_model()
    noise = model.fields(batch, height, width, CPU, torch.Generator().manual_seed(0))
    assert noise.shape == (batch, 3, height, width)
    for down, across in ((0, 0), (0, 1), (1, 0), (2, 1), (4, 4)):
        expected = model.correlation[:, :, REACH + down, REACH + across]
        assert (correlations(noise, down, across) - expected).abs().max() < 0.03


def test_level_follows_the_intensity() -> None:
    model = known_model()
    clean = torch.linspace(0, 255, 256).view(1, 1, 1, -1).expand(40, 3, 256, 256)
    noise = model.sample(clean, torch.Generator().manual_seed(0))
    measured = noise.square().mean((0, 2)).unflatten(1, (16, 16)).mean(2).sqrt()
    expected = model.level(clean)[0, :, 0].square().unflatten(1, (16, 16)).mean(2).sqrt()
    assert (measured / expected - 1).abs().max() < 0.03
    assert model.level(torch.full((1, 3, 1, 1), 127.5)).flatten().tolist() == pytest.approx([18, 12, 14.4], abs=0.01)


def test_heavy_tails() -> None:
    noise = known_model(kurtosis=4.5).fields(200, 128, 128, CPU, torch.Generator().manual_seed(0))
    variance = noise.square().mean((0, 2, 3))
    assert (variance - 1).abs().max() < 0.03
    assert (noise**4).mean((0, 2, 3)).div(variance**2).sub(4.5).abs().max() < 0.4
    assert correlations(noise, 0, 1)[1, 1] == pytest.approx(float(known_model().correlation[1, 1, 4, 5]), abs=0.03)


def test_random_scales_change_slowly_and_have_unit_variance_everywhere() -> None:
    """Over 16 pixels from one independent value to the next: at half way, each has a weight of sqrt(1 / 2)."""
    field = swell(4000, 1, 40, CPU, torch.Generator().manual_seed(0))[:, 0, 0]
    assert (field.square().mean(0) - 1).abs().max() < 0.1
    correlation = (field[:, :1] * field).mean(0)
    expected = (torch.arange(17) * math.pi / 32).cos()
    assert (correlation[:17] - expected).abs().max() < 0.06 and correlation[32].abs() < 0.06
    assert field.diff().abs().max() < 0.6


def test_clipping_restores_the_level_that_is_seen() -> None:
    """Noise drawn as it was before black and white is, after them, as the levels say at the mean it then has."""
    model = known_model()
    model.levels.fill_(15)
    for value in (2.0, 10.0, 128.0, 250.0):
        clean = torch.full((60, 3, 64, 64), value)
        noisy = (clean + model.sample(clean, torch.Generator().manual_seed(1), clipped=False)).clamp(0, 255)
        assert noisy.std((0, 2, 3)).sub(15).abs().max() < 15 * 0.03
    assert (model.level(torch.zeros(1, 3, 1, 1), clipped=False) > 24).all()


def test_moments_after_clipping() -> None:
    x = 20 + 30 * torch.randn(2_000_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, deviation = moments_after_clipping(torch.tensor(20.0).double(), torch.tensor(30.0).double())
    assert mean == pytest.approx(float(x.clamp(0, 255).mean()), rel=0.005)
    assert deviation == pytest.approx(float(x.clamp(0, 255).std()), rel=0.005)


def test_scale_and_generator() -> None:
    model, clean = known_model(kurtosis=4), torch.rand(3, 3, 40, 24) * 255

    def draw(scale: float | torch.Tensor = 1) -> torch.Tensor:
        return model.sample(clean, torch.Generator().manual_seed(7), scale)

    assert torch.equal(draw(), draw())
    assert torch.allclose(draw(2.0), 2 * draw())
    scales = torch.tensor([0.0, 1.0, 3.0])
    assert torch.allclose(draw(scales), draw() * scales.view(3, 1, 1, 1))


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (17, 16)])
def test_any_size(size: tuple[int, int]) -> None:
    assert known_model().sample(torch.full((2, 3, *size), 90.0)).shape == (2, 3, *size)


def test_what_is_drawn_follows_the_buffers() -> None:
    model, clean = known_model(), torch.full((1, 3, 64, 64), 100.0)
    model.sample(clean)
    model.levels.fill_(1)
    model.correlation.copy_(NoiseModel().correlation)
    fresh = NoiseModel()
    fresh.levels.fill_(1)
    draws = [one.sample(clean, torch.Generator().manual_seed(0)) for one in (model, fresh)]
    assert torch.equal(*draws)


def test_travels_as_json_state_and_copy() -> None:
    model = known_model(kurtosis=4)
    from_json = NoiseModel.from_dict(json.loads(json.dumps(model.to_dict())))
    loaded = NoiseModel()
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    for other in (from_json, loaded, copy.deepcopy(model)):
        for name, value in model.state_dict().items():
            assert torch.allclose(other.state_dict()[name], value, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"levels": [1, 2]},
        {"levels": [[1.0] * 17] * 17},
        {"levels": "x"},
        {"kurtosis": float("nan")},
        {"kurtosis": 2},
        {"more": 1},
    ],
)
def test_a_wrong_dictionary_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="noise model"):
        NoiseModel.from_dict(known_model().to_dict() | change)


def plain_spectrum(correlation: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(height, width, C, C): the sum over the 81 lags of correlation times cos(2 pi (u dy / height + v dx / width))."""
    lags = torch.arange(-4.0, 5).double()
    down = torch.arange(height).double()[:, None] * lags / height
    along = torch.arange(width).double()[:, None] * lags / width
    waves = torch.cos(2 * math.pi * (down[:, None, :, None] + along[None, :, None, :]))
    return torch.einsum("ijyx,uvyx->uvij", correlation.double(), waves)


@pytest.mark.parametrize(("height", "width"), [(9, 9), (12, 17), (20, 10)])
def test_the_spectrum_is_a_sum_of_cosines(height: int, width: int) -> None:
    correlation = known_model().correlation.double()
    found = spectrum(correlation, height, width)
    assert found.shape == (height, width // 2 + 1, 3, 3)
    expected = plain_spectrum(correlation, height, width)[:, : width // 2 + 1]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 17), (21, 18)])
def test_impulses_of_the_field_add_up_to_the_correlation(height: int, width: int) -> None:
    """The covariance of the field is A A^T, where A is what ``white_to_field`` does to one normal number each."""
    correlation = known_model().correlation[:2, :2]
    roots = transfer(correlation, height, width)
    assert roots.shape == (2, 2, height, 2 * (width // 2 + 1)) and roots.dtype == torch.float32
    assert not roots[0, 1].any() and torch.equal(roots[..., ::2], roots[..., 1::2])
    numbers = 2 * height * roots.size(3)
    fields = white_to_field(torch.eye(numbers).view(numbers, 2, height, -1), roots, width).flatten(1).double()
    covariance = (fields.T @ fields).view(2, height, width, 2, height, width)
    negative = plain_spectrum(correlation, height, width)
    assert torch.linalg.eigvalsh(negative).min() > -0.02  # so that little is cut off
    for down, along in ((0, 0), (0, 1), (2, 0), (3, 2), (4, 4), (6, 7)):
        expected = correlation[:, :, 4 + down, 4 + along] if max(down, along) <= 4 else torch.zeros(2, 2)
        for row, column in ((0, 0), (5, 9), (15, 15)):  # everywhere the same, across the border, too
            found = covariance[:, row, column, :, (row + down) % height, (column + along) % width]
            torch.testing.assert_close(found.float(), expected, atol=0.01, rtol=0)


def test_variances_are_1_where_the_spectrum_would_be_negative() -> None:
    """A correlation of 0.9 in a row with nothing beyond: no field has it."""
    correlation = torch.zeros(1, 1, 9, 9)
    correlation[0, 0, 4, 3:6] = torch.tensor([0.9, 1, 0.9])
    roots = transfer(correlation, 16, 16)
    fields = white_to_field(torch.eye(16 * 18).view(-1, 1, 16, 18), roots, 16).flatten(1)
    torch.testing.assert_close(fields.square().sum(0), torch.ones(256), atol=1e-4, rtol=0)
    nothing = transfer(torch.zeros(1, 1, 9, 9), 16, 16)
    assert nothing.isfinite().all() and nothing.abs().max() < 1e-3


@pytest.mark.parametrize(
    ("length", "starts"), [(1, [0]), (64, [0]), (512, [0]), (513, [0, 448]), (960, [0, 448]), (961, [0, 448, 896])]
)
def test_pieces_of_512_begin_every_448_pixels(length: int, starts: list[int]) -> None:
    """They overlap by 64, where the squares of the weights of both add up to 1."""
    found, weights = fade(length)
    assert found == starts and weights.shape == (len(starts), 512)
    power = torch.zeros(starts[-1] + 512)
    for start, weight in zip(starts, weights, strict=True):
        power[start : start + 512] += weight.square()
    torch.testing.assert_close(power, torch.ones_like(power))
    if len(starts) > 1:
        assert weights[1, :64].diff().min() > 0 > weights[0, -64:].diff().max()
        assert float(weights[1, 0]) == pytest.approx(math.sin(math.pi / 256))


@pytest.mark.parametrize(("height", "width"), [(1, 40), (33, 17)])
def test_a_swell_is_interpolated_between_independent_numbers(height: int, width: int) -> None:
    """By a cosine to 0 from one number to the next, 16 pixels on, and a sine; the same numbers as ``torch.randn``."""
    found = swell(2, height, width, CPU, torch.Generator().manual_seed(5))
    assert found.shape == (2, 1, height, width)
    cells = ((height - 1) // 16 + 2, (width - 1) // 16 + 2)
    coarse = torch.randn(2, *cells, generator=torch.Generator().manual_seed(5))
    for row, column in ((0, 0), (0, width - 1), (height - 1, 5), (height // 2, 16)):
        top, left = row // 16, column // 16
        down, along = (place % 16 / 16 * math.pi / 2 for place in (row, column))
        square = coarse[:, top : top + 2, left : left + 2]
        expected = (
            square[:, 0, 0] * math.cos(down) * math.cos(along) + square[:, 0, 1] * math.cos(down) * math.sin(along)
            + square[:, 1, 0] * math.sin(down) * math.cos(along) + square[:, 1, 1] * math.sin(down) * math.sin(along)
        )  # fmt: skip
        torch.testing.assert_close(found[:, 0, row, column], expected)
