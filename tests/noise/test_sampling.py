"""What is drawn has the statistics of the model."""

import copy
import io
import json
import math

import pytest
import torch

from atbsn.noise import NoiseModel
from atbsn.noise.clipping import moments_after_clipping
from atbsn.noise.sampling import REACH, swell
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
def test_fields_have_the_models_correlation(batch, height, width):
    model = known_model()
    noise = model.fields(batch, height, width, CPU, torch.Generator().manual_seed(0))
    assert noise.shape == (batch, 3, height, width)
    for down, across in ((0, 0), (0, 1), (1, 0), (2, 1), (4, 4)):
        expected = model.correlation[:, :, REACH + down, REACH + across]
        assert (correlations(noise, down, across) - expected).abs().max() < 0.03


def test_level_follows_the_intensity():
    model = known_model()
    clean = torch.linspace(0, 255, 256).view(1, 1, 1, -1).expand(40, 3, 256, 256)
    noise = model.sample(clean, torch.Generator().manual_seed(0))
    measured = noise.square().mean((0, 2)).unflatten(1, (16, 16)).mean(2).sqrt()
    expected = model.level(clean)[0, :, 0].square().unflatten(1, (16, 16)).mean(2).sqrt()
    assert (measured / expected - 1).abs().max() < 0.03
    assert model.level(torch.full((1, 3, 1, 1), 127.5)).flatten().tolist() == pytest.approx([18, 12, 14.4], abs=0.01)


def test_heavy_tails():
    noise = known_model(kurtosis=4.5).fields(200, 128, 128, CPU, torch.Generator().manual_seed(0))
    variance = noise.square().mean((0, 2, 3))
    assert (variance - 1).abs().max() < 0.03
    assert (noise**4).mean((0, 2, 3)).div(variance**2).sub(4.5).abs().max() < 0.4
    assert correlations(noise, 0, 1)[1, 1] == pytest.approx(float(known_model().correlation[1, 1, 4, 5]), abs=0.03)


def test_random_scales_change_slowly_and_have_unit_variance_everywhere():
    """Over 16 pixels from one independent value to the next: at half way, each has a weight of sqrt(1 / 2)."""
    field = swell(4000, 1, 40, CPU, torch.Generator().manual_seed(0))[:, 0, 0]
    assert (field.square().mean(0) - 1).abs().max() < 0.1
    correlation = (field[:, :1] * field).mean(0)
    expected = (torch.arange(17) * math.pi / 32).cos()
    assert (correlation[:17] - expected).abs().max() < 0.06 and correlation[32].abs() < 0.06
    assert field.diff().abs().max() < 0.6


def test_clipping_restores_the_level_that_is_seen():
    """Noise drawn as it was before black and white is, after them, as the levels say at the mean it then has."""
    model = known_model()
    model.levels.fill_(15)
    for value in (2.0, 10.0, 128.0, 250.0):
        clean = torch.full((60, 3, 64, 64), value)
        noisy = (clean + model.sample(clean, torch.Generator().manual_seed(1), clipped=False)).clamp(0, 255)
        assert noisy.std((0, 2, 3)).sub(15).abs().max() < 15 * 0.03
    assert (model.level(torch.zeros(1, 3, 1, 1), clipped=False) > 24).all()


def test_moments_after_clipping():
    x = 20 + 30 * torch.randn(2_000_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, deviation = moments_after_clipping(torch.tensor(20.0).double(), torch.tensor(30.0).double())
    assert mean == pytest.approx(float(x.clamp(0, 255).mean()), rel=0.005)
    assert deviation == pytest.approx(float(x.clamp(0, 255).std()), rel=0.005)


def test_scale_and_generator():
    model, clean = known_model(kurtosis=4), torch.rand(3, 3, 40, 24) * 255

    def draw(scale: float | torch.Tensor = 1) -> torch.Tensor:
        return model.sample(clean, torch.Generator().manual_seed(7), scale)

    assert torch.equal(draw(), draw())
    assert torch.allclose(draw(2.0), 2 * draw())
    scales = torch.tensor([0.0, 1.0, 3.0])
    assert torch.allclose(draw(scales), draw() * scales.view(3, 1, 1, 1))


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (17, 16)])
def test_any_size(size):
    assert known_model().sample(torch.full((2, 3, *size), 90.0)).shape == (2, 3, *size)


def test_what_is_drawn_follows_the_buffers():
    model, clean = known_model(), torch.full((1, 3, 64, 64), 100.0)
    model.sample(clean)
    model.levels.fill_(1)
    model.correlation.copy_(NoiseModel().correlation)
    fresh = NoiseModel()
    fresh.levels.fill_(1)
    draws = [one.sample(clean, torch.Generator().manual_seed(0)) for one in (model, fresh)]
    assert torch.equal(*draws)


def test_travels_as_json_state_and_copy():
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
def test_a_wrong_dictionary_is_refused(change):
    with pytest.raises(UserError, match="noise model"):
        NoiseModel.from_dict(known_model().to_dict() | change)
