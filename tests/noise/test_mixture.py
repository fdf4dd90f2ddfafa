"""The parts of the estimate: energies, likelihoods and priors against SciPy; what fit and correlation give."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from scipy.stats import exponnorm, norm

from atbsn.noise import estimation
from atbsn.noise.blocks import BlockStore, without_plane
from atbsn.noise.estimation import _as_tensor, _correlation, _energies, _valid, estimate, from_residual
from atbsn.noise.mixture import Mixture
from atbsn.noise.sampling import spectrum
from atbsn.utils.errors import UserError


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mixture(pictures: int = 2) -> tuple[Mixture, np.ndarray, np.ndarray, np.ndarray]:
    """60 blocks of two channels at all intensities, with texture in a third; every eleventh has a channel left out."""
    rng = np.random.default_rng(0)
    means = rng.uniform(-10, 265, (60, 2))
    owner = np.arange(60) % pictures
    observed = (
        rng.normal(2, 0.2, (60, 2))
        + 0.3 * owner[:, None]
        + rng.exponential(1, (60, 1)) * (np.arange(60) % 3 == 0)[:, None]
    )
    observed[::11, 1] = np.nan
    made = Mixture(torch.from_numpy(observed), torch.from_numpy(means), torch.from_numpy(owner), pictures, 0.3)
    return made, observed, means, owner


def moved(made: Mixture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give it parameters of all sizes: knots, gains and shape."""
    rng = np.random.default_rng(1)
    knots, gains = rng.normal(2, 0.5, (2, 17)), rng.normal(0, 0.5, 2)
    shape = np.array([0.7, 0.2, -1.1])
    with torch.no_grad():
        for own, value in ((made.knots, knots), (made.gains, gains), (made.shape, shape)):
            own.copy_(torch.from_numpy(value))
    return knots, gains, shape


def test_energies_are_mean_squares_of_fine_and_of_coarse_waves() -> None:
    """Fine: at least six half waves a block. None is taken to be below 0.02."""
    blocks = noise(3, 2, 256)
    blocks[2, 1] = 0.001
    fine, coarse = _energies(blocks, 6)
    assert fine.dtype == coarse.dtype == torch.float64
    u, v = np.indices((16, 16))
    for number, channel in np.ndindex(3, 2):
        energy = dctn(blocks[number, channel].double().numpy().reshape(16, 16), norm="ortho") ** 2
        is_fine = u**2 + v**2 >= 36
        for found, part in ((fine, is_fine), (coarse, ~is_fine)):
            expected = math.log(max(energy[part].sum() / 256, 0.02))
            assert float(found[number, channel]) == pytest.approx(expected, abs=1e-4)


def expected_by_hand(means: np.ndarray, owner: np.ndarray, knots: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Straight lines between 17 knots from 0 to 255, flat beyond them, plus the gain of the picture."""
    at = np.linspace(0, 255, 17)
    return np.stack([np.interp(means[:, c], at, knots[c]) for c in range(2)], axis=1) + gains[owner][:, None]


def test_the_expected_energy_is_the_curve_at_the_intensity_plus_the_gain() -> None:
    made, _, means, owner = mixture()
    knots, gains, _ = moved(made)
    found = made.expected().detach().numpy()
    assert (
        np.abs(found - expected_by_hand(means, owner, knots, gains)).max() < 5e-3
    )  # at white, a thousandth is missing


def likelihoods_by_hand(observed: np.ndarray, expected: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the channels that are there: Gaussian; and Gaussian plus exponential; each times its share."""
    log_odds, log_excess, log_std = shape
    std, excess = np.exp(log_std), np.exp(log_excess)
    off = observed - expected
    flat = np.nansum(norm.logpdf(off, scale=std), axis=1)
    textured = np.nansum(exponnorm.logpdf(off, excess / std, scale=std), axis=1)
    share = 1 / (1 + np.exp(-log_odds))
    return np.log(share) + flat, np.log(1 - share) + textured


def test_blocks_are_gaussian_or_gaussian_plus_exponential() -> None:
    made, observed, _, _ = mixture()
    _, _, shape = moved(made)
    expected = made.expected().detach().numpy()
    for found, by_hand in zip(made.log_likelihoods(), likelihoods_by_hand(observed, expected, shape), strict=True):
        assert found.detach().numpy() == pytest.approx(by_hand, abs=1e-6)


def test_the_objective_is_the_likelihood_of_the_blocks_and_of_the_priors() -> None:
    """A block that neither explains has a density of 1/1000 over ten units, in every channel that is there. The priors
    are Gaussian; their widths are those with which the accuracy in the documents was measured."""
    made, observed, _, _ = mixture()
    observed[7] += 40
    made.observed[7] += 40
    knots, gains, shape = moved(made)
    flat, textured = likelihoods_by_hand(observed, made.expected().detach().numpy(), shape)
    outlier = math.log(1e-3 / 10) * np.isfinite(observed).sum(1)
    total = np.logaddexp(np.logaddexp(flat, textured), outlier).sum()
    slopes = np.diff(knots, axis=1)
    for deviation, width in (
        (np.diff(slopes, axis=1), 0.25), (slopes, 1.0), (slopes - slopes.mean(0), 0.25), (gains, 1.0),
        (shape[1] - math.log(1.5), 0.5), (shape[2] - math.log(0.3), 0.5), (shape[0], 3.0),
    ):  # fmt: skip
        total -= np.square(deviation / width).sum() / 2
    assert float(made.objective().detach()) == pytest.approx(-total, rel=1e-6)


def test_a_known_deviation_hardly_moves_and_an_unknown_one_begins_at_a_fifth() -> None:
    """By a thousandth of its logarithm, where another may move by a half."""
    made, observed, means, owner = mixture()
    data = torch.from_numpy(observed), torch.from_numpy(means), torch.from_numpy(owner), 2
    known = Mixture(*data, 0.3, is_known=True)
    with torch.no_grad():
        for each in (made, known):
            each.shape[2] += 0.004
        held = float(known.objective() - made.objective())
        assert held == pytest.approx(((0.004 / 1e-3) ** 2 - (0.004 / 0.5) ** 2) / 2, rel=1e-4)
        assert float(Mixture(*data).shape[2].exp()) == pytest.approx(0.2)
    fresh, *_ = mixture()
    assert fresh.shape.tolist() == pytest.approx([0, math.log(1.5), math.log(0.3)])


def test_the_fit_begins_below_the_texture() -> None:
    """At the 30 % quantile of each channel; a picture whose own is higher begins with a gain."""
    made, observed, _, owner = mixture()
    low = np.nanquantile(observed, 0.3, axis=0)
    assert made.knots[:, 0].tolist() == pytest.approx(low.tolist()) and torch.equal(
        made.knots[:, :1].expand(2, 17), made.knots
    )
    above = np.nanmean(observed - low, axis=1)
    first = np.array([np.nanquantile(above[owner == picture], 0.3) for picture in (0, 1)])
    assert made.gains.tolist() == pytest.approx((first - first.mean()).tolist())


def test_the_fit_is_at_the_top_of_the_posterior_and_says_what_it_means() -> None:
    """Texture, and the picture with 0.3 more, are found; gains have the mean 0."""
    made, observed, means, owner = mixture()
    fit = made.fit()
    with torch.enable_grad():
        made.objective().backward()
    for parameter in (made.gains, made.shape):
        assert parameter.grad is not None and parameter.grad.abs().max() < 0.5
    assert float(fit.gains.mean()) == pytest.approx(0, abs=1e-9)
    assert fit.sampling_std == pytest.approx(0.2, abs=0.05)
    assert float(fit.gains[1] - fit.gains[0]) == pytest.approx(0.3, abs=0.1)
    expected = expected_by_hand(means, owner, fit.knots.numpy(), fit.gains.numpy())
    assert np.abs(fit.expected.numpy() - expected).max() < 2e-3
    shape = np.array([*made.shape[:2].tolist(), math.log(fit.sampling_std)])
    flat, textured = likelihoods_by_hand(observed, fit.expected.numpy(), shape)
    assert fit.flat.tolist() == pytest.approx((1 / (1 + np.exp(textured - flat))).tolist(), abs=1e-5)
    excess = observed[:, 0] - fit.expected.numpy()[:, 0]
    assert (fit.flat.numpy()[excess > 0.8] < 0.1).all() and fit.flat.numpy()[excess < 0.1].mean() > 0.6
    assert not fit.knots.requires_grad and not fit.expected.requires_grad


def lag_one(amount: float) -> torch.Tensor:
    """Blocks (400, 1, 256) of noise that is correlated in rows, less their planes."""
    white = noise(400, 16, 17)
    field = white[..., 1:] + amount * white[..., :-1]
    return without_plane(field.flatten(1)[:, None])


def test_the_correlation_is_that_of_blocks_without_texture_scaled_to_one_level() -> None:
    """Lag 1: a / (1 + a^2), 0.4 and -0.4. Blocks count from a probability of a half, at least eight of them."""
    blocks = torch.cat([lag_one(0.5), lag_one(-0.5)])
    blocks[:200] *= 30
    level = torch.full((800, 1), math.log(1.25)).double()
    level[:200] += 2 * math.log(30)

    def found(first: float, second: float) -> float:
        flat = torch.tensor([first, second]).repeat_interleave(400)
        return float(_correlation(blocks, level, flat.double())[0, 0, 4, 5])

    assert found(0.9, 0.45) == pytest.approx(0.4, abs=0.01) and found(0.45, 0.55) == pytest.approx(-0.4, abs=0.01)
    assert found(0.5, 0.5) == pytest.approx(0, abs=0.01) and found(0.2, 0.1) == pytest.approx(0.4, abs=0.01)
    few = torch.zeros(800).double()
    few[:3], few[400:405], few[405:] = 0.9, 0.2, 0.1
    eight = torch.cat([blocks[:3], blocks[400:405]])
    expected = _correlation(eight, torch.cat([level[:3], level[400:405]]), torch.ones(8).double())
    torch.testing.assert_close(_correlation(blocks, level, few), expected)


def test_what_planes_take_off_is_given_back() -> None:
    """White noise has no correlation, though blocks less their planes have some; missing channels do not count."""
    blocks = without_plane(noise(3000, 2, 256))
    blocks[::2, 1] = torch.nan
    found = _correlation(blocks, torch.zeros(3000, 2).double(), torch.ones(3000).double())
    assert found.shape == (2, 2, 9, 9)
    expected = torch.zeros(2, 2, 9, 9)
    expected[:, :, 4, 4] = torch.eye(2)
    assert (found - expected).abs().max() < 0.02


def test_a_correlation_that_noise_can_have_stays_and_another_is_made_possible() -> None:
    """Variances of 1, no negative power; what a field can have is not changed."""
    lags = torch.arange(-4.0, 5)
    shape = torch.exp(-(lags[:, None] ** 2 + lags**2) / 1.5).double()
    possible = torch.tensor([[1, 0.4], [0.4, 1]]).double()[:, :, None, None] * shape
    torch.testing.assert_close(_valid(9 * possible), possible, atol=1e-3, rtol=0)
    impossible = torch.zeros(2, 2, 9, 9).double()
    impossible[0, 0, 4, 3:6] = torch.tensor([2.7, 3, 2.7])
    impossible[1, 1, 4, 4], impossible[0, 1, 4, 4] = 2, torch.nan
    found = _valid(impossible)
    torch.testing.assert_close(found[:, :, 4, 4].diagonal(), torch.ones(2).double())
    assert (
        torch.linalg.eigvalsh(spectrum(found, 36, 36)).min()
        > -0.05
        > torch.linalg.eigvalsh(spectrum(impossible.nan_to_num(), 36, 36)).min()
    )
    assert 0.5 < float(found[0, 0, 4, 5]) < 0.75
    torch.testing.assert_close(_valid(found), found, atol=0.02, rtol=0)


def flat_picture(level: float, seed: int, side: int = 192, blur: float = 0.0) -> torch.Tensor:
    """(2, side, side) around 128; ``blur``: weight of each of eight neighbours."""
    white = noise(2, 1, side + 2, side + 2, seed=seed)
    kernel = torch.full((1, 1, 3, 3), blur)
    kernel[..., 1, 1] = 1
    field = torch.nn.functional.conv2d(white, kernel)[:, 0]
    return 128 + level * field / (1 + 8 * blur**2) ** 0.5


def test_the_level_of_flat_pictures_is_found_closely() -> None:
    """To 2 %, where nothing has texture; and one picture has no spread, nor Gaussian noise heavy tails."""
    found = estimate([flat_picture(10, 0)])
    at = torch.full((1, 2, 1, 1), 128.0)
    assert found.level(at).flatten().tolist() == pytest.approx([10, 10], rel=0.02)
    assert found.kurtosis == pytest.approx(3, abs=0.06) and found.spread == pytest.approx(0, abs=1e-6)
    assert (found.correlation[:, :, 4, 4] - torch.eye(2)).abs().max() < 0.02


def test_coarse_noise_of_two_levels_is_looked_for_in_coarser_bands() -> None:
    """Nine pixels share it, so hardly any is as fine as six half waves a block. 8 and 12 lie half of log(12 / 8) on
    either side of their geometric mean."""
    found = estimate([flat_picture(8, 0, 128, blur=1.0), flat_picture(12, 1, 128, blur=1.0)])
    at = torch.full((1, 2, 1, 1), 128.0)
    assert found.level(at).flatten().tolist() == pytest.approx([96**0.5] * 2, rel=0.05)
    assert found.spread == pytest.approx(math.log(1.5) / 2, abs=0.03)
    assert float(found.correlation[0, 0, 4, 5]) == pytest.approx(2 / 3, abs=0.04)


@pytest.mark.parametrize(("deviation", "least", "most"), [(0.3, 3.4, 4.8), (1.5, 12.0, 12.0)])
def test_blocks_of_many_strengths_are_heavy_tails(deviation: float, least: float, most: float) -> None:
    """3 exp(4 s^2) = 4.3 for a log-normal scale of deviation s = 0.3, some of it taken for texture; 12 at most."""
    scale = torch.exp(deviation * noise(12, 12, seed=3)).repeat_interleave(16, 0).repeat_interleave(16, 1)
    kurtosis = float(estimate([128 + (flat_picture(6, 0) - 128) * scale]).kurtosis)
    assert least <= kurtosis <= most


def test_a_residual_is_measured_at_the_intensities_of_the_result() -> None:
    clean = torch.full((2, 96, 192), 60.0)
    clean[..., 96:] = 190
    level = torch.where(clean < 100, 4.0, 12.0)
    noisy = clean + level * noise(2, 96, 192)
    found = from_residual([(noisy, clean)])
    at = torch.tensor([60.0, 190]).expand(1, 2, 1, 2)
    assert found.level(at)[0, 0, 0].tolist() == pytest.approx([4, 12], rel=0.05)


def test_eight_blocks_are_enough_and_pictures_without_any_do_not_count() -> None:
    """One that is black, and one that is smaller than a block."""
    eight = 100 + 5 * noise(1, 16, 128)
    found = estimate([torch.zeros(1, 64, 64), eight, torch.full((1, 8, 8), 90.0)])
    assert float(found.level(torch.full((1, 1, 1, 1), 100.0))) == pytest.approx(5, rel=0.1) and found.spread == 0
    with pytest.raises(UserError, match=r"^1 pictures with fewer than 8 blocks of 16 x 16 pixels"):
        estimate([eight[..., :112]])
    with pytest.raises(UserError, match=r"^no picture to estimate noise from; give at least one$"):
        estimate([])


def test_a_channel_that_is_black_everywhere_is_named() -> None:
    """A block of it is enough, and a block counts where any of its channels is seen."""
    picture = 100 + 5 * noise(3, 32, 64)
    picture[1] = 0
    with pytest.raises(UserError, match=r"^channel 2 of the pictures is black or white everywhere, .*; leave the"):
        estimate([picture])
    picture[1, :16, :16] = 100 + 5 * noise(16, 16, seed=1)
    assert estimate([picture]).levels.isfinite().all()


def test_pictures_are_arrays_with_channels_last_or_tensors_with_channels_first() -> None:
    array = np.zeros((3, 5, 2), np.uint16)
    array[1, 2, 1] = 257
    found = _as_tensor(array)
    assert found.shape == (2, 3, 5) and found[1, 1, 2] == 1 and found.sum() == 1
    tensor = torch.zeros(16, 3, 5, requires_grad=True)
    assert _as_tensor(tensor).shape == (16, 3, 5) and not _as_tensor(tensor).requires_grad
    for wrong in (
        np.zeros((20, 20)),
        np.zeros((2, 20, 17)),
        torch.zeros(17, 3, 5),
        torch.zeros(0, 3, 5),
        np.zeros((1, 3, 5, 2)),
    ):
        with pytest.raises(UserError, match=r"an \(H, W, C\) array or a \(C, H, W\) tensor is needed, C from 1 to 16"):
            _as_tensor(wrong)


def test_the_seed_chooses_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are more than can be kept."""
    monkeypatch.setattr(estimation, "BlockStore", partial(BlockStore, per_picture=60))
    monkeypatch.setattr(estimation, "_fit", lambda store: store.blocks()[1])
    picture = 100 + 5 * noise(1, 160, 160)

    def chosen(*seed: int) -> list[torch.Tensor]:
        return [estimate([picture], *seed), from_residual([(picture, picture + 1)], *seed)]  # type: ignore[list-item]

    for first, again, other in zip(chosen(), chosen(0), chosen(1), strict=True):
        assert len(first) == 60 and torch.equal(first, again) and not torch.equal(first, other)
