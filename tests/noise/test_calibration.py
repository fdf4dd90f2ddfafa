"""How a denoiser's own errors are taken out of a noise model, and which of two models is believed."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch

from atbsn.noise import calibration
from atbsn.noise.calibration import bounded, estimate_any, estimate_with
from atbsn.noise.model import NoiseModel

Pairs = Iterable[tuple[torch.Tensor, torch.Tensor]]


def model(level: float, kurtosis: float = 3.0, lag: float = 0.0) -> NoiseModel:
    made = NoiseModel()
    made.levels.fill_(level)
    made.kurtosis.fill_(kurtosis)
    made.correlation[:, :, 4, 5] = lag
    return made


def half(picture: torch.Tensor) -> torch.Tensor:
    """A denoiser that halves what lies off 100."""
    return 100 + (picture - 100) / 2


@pytest.fixture
def residuals(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[tuple[torch.Tensor, torch.Tensor]]]]:
    """``residuals(M1, M2)``: what ``from_residual`` finds, one after the other; gives the pairs that it was given."""

    def found(*models: NoiseModel) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
        given: list[list[tuple[torch.Tensor, torch.Tensor]]] = []
        waiting = list(models)

        def from_residual(pairs: Pairs, seed: int) -> NoiseModel:
            assert seed == 5
            given.append(list(pairs))
            return waiting.pop(0)

        monkeypatch.setattr(calibration, "from_residual", from_residual)
        return given

    return found


@pytest.mark.parametrize(("first", "second", "expected"), [(8, 6, 8 * 8 / 6), (8, 3, 16), (8, 32, 4), (8, 0, 16)])
def test_a_level_is_corrected_as_far_as_the_second_differs_from_the_first(
    residuals: Callable[..., object], first: float, second: float, expected: float
) -> None:
    """But never by more than a factor of two."""
    residuals(model(first, lag=0.3), model(second, lag=0.1))
    found = estimate_with(half, [torch.full((3, 16, 16), 90.0)], seed=5)
    torch.testing.assert_close(found.levels, torch.full((3, 17), float(expected)))
    torch.testing.assert_close(found.correlation[:, :, 4, 5], torch.full((3, 3), 0.5))
    assert torch.equal(found.correlation[:, :, 4, 4], torch.eye(3))


def test_noise_of_the_first_model_is_added_to_what_was_denoised(
    residuals: Callable[..., list[list[tuple[torch.Tensor, torch.Tensor]]]],
) -> None:
    """As a camera would show it: noise before clipping, then clipped and rounded; one picture after the other."""
    first = model(8)
    given = residuals(first, model(8))
    array: np.ndarray | torch.Tensor = np.full((16, 32, 3), 60, np.uint8)
    tensor = torch.linspace(-120, 160, 32).expand(3, 24, 32)
    estimate_with(half, iter((array, tensor)), seed=5)
    (pairs, again) = given
    noisy = [torch.full((3, 16, 32), 60.0), tensor]
    draws = torch.Generator().manual_seed(5)
    for place, picture in enumerate(noisy):
        assert torch.equal(pairs[place][0], picture) and torch.equal(pairs[place][1], half(picture))
        scene = half(picture)
        expected = (scene + model(8).sample(scene[None], draws, clipped=False)[0]).clamp(0, 255).round()
        assert torch.equal(again[place][0], expected) and torch.equal(again[place][1], half(expected))
    assert len(pairs) == len(again) == 2 and again[1][0].min() == 0


@pytest.mark.parametrize(("kurtosis", "expected"), [(3.25, 10.0), (3.35, 6.0)])
def test_levels_are_bounded_where_blocks_differ(kurtosis: float, expected: float) -> None:
    """By 1.5 times what a denoiser takes off; a kurtosis of 3.3 and less is that of noise."""
    found = model(10, kurtosis)
    assert bounded(found, model(4)) is found
    assert found.levels.eq(expected).all()
    weak = model(3, kurtosis)
    assert bounded(weak, model(4)).levels.eq(3).all()


@pytest.mark.parametrize(
    ("level", "taken_off", "strong", "is_strong"),
    [(10.0, 9.0, 9.5, True), (10.0, 9.0, 10.5, False), (10.0, 6.1, 9.5, True), (10.0, 5.9, 9.5, False)],
)
def test_noise_is_strong_by_its_level_if_the_denoiser_knows_it(
    monkeypatch: pytest.MonkeyPatch, level: float, taken_off: float, strong: float, is_strong: bool
) -> None:
    """Then the model is that of what it takes off; it has to take off more than 0.6 of the noise."""
    direct, through = model(level), model(taken_off)
    pictures: list[np.ndarray | torch.Tensor] = [np.full((16, 16, 3), 60, np.uint8), torch.full((3, 16, 16), 70.0)]

    def given(noisy: list[torch.Tensor], seed: int) -> None:
        assert seed == 7 and [float(picture[0, 0, 0]) for picture in noisy] == [60, 70]

    def estimate(noisy: list[torch.Tensor], seed: int) -> NoiseModel:
        given(noisy, seed)
        return direct

    def estimate_with(denoise: object, noisy: list[torch.Tensor], seed: int) -> NoiseModel:
        assert denoise is half
        given(noisy, seed)
        return through

    monkeypatch.setattr(calibration, "estimate", estimate)
    monkeypatch.setattr(calibration, "estimate_with", estimate_with)
    assert estimate_any(half, iter(pictures), strong, seed=7) == (through if is_strong else direct, is_strong)


def test_a_doubtful_level_is_bounded_before_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "estimate", lambda noisy, seed: model(30, kurtosis=5))
    monkeypatch.setattr(calibration, "estimate_with", lambda denoise, noisy, seed: model(4))
    found, is_strong = estimate_any(half, [torch.full((3, 16, 16), 70.0)], strong=7)
    assert not is_strong and found.levels.eq(6).all()


def test_without_a_seed_it_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the same pictures have the same model."""
    seeds: list[int] = []

    def from_residual(pairs: Pairs, seed: int) -> NoiseModel:
        seeds.append(seed)
        return model(5)

    def estimate(noisy: object, seed: int) -> NoiseModel:
        seeds.append(seed)
        return model(5)

    monkeypatch.setattr(calibration, "from_residual", from_residual)
    monkeypatch.setattr(calibration, "estimate", estimate)
    estimate_any(half, [torch.full((3, 16, 16), 70.0)], strong=7)
    estimate_with(half, [torch.full((3, 16, 16), 70.0)])
    assert seeds == [0] * 5
