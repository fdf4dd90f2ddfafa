"""Estimate a noise model from noisy pictures alone, or from what a denoiser took off them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atbsn.noise.blocks import SIDE, BlockStore, fine_band, fine_share, lag_products, plane_response, without_plane
from atbsn.noise.model import KNOTS, MOST_CHANNELS, NoiseModel
from atbsn.noise.sampling import REACH, spectrum
from atbsn.pictures import to_tensor
from atbsn.utils.errors import UserError

_LEAST = 0.02
"""Least variance that a block is taken to have; rounding to whole grey values alone adds 1 / 12."""
_RADII = (6, 4, 2, 0)
"""Bands in which the level is looked for, the finest first: texture is coarser than most noise."""
_LEAST_SHARE = 0.2
"""Least share of the noise's variance that the band must hold."""
_RATIO_CHANCE = 0.3
"""What chance does to the log of the coarse part of a block over the fine. White noise has 0.25, SIDD's 0.35; it is
set rather than fitted, since a picture full of mild texture would be taken for one with much chance."""
_MINIMUM_BLOCKS = 8
_ROUGHNESS, _SLOPE, _COLOUR = 0.25, 1.0, 0.25
"""Prior standard deviations, of log variances: second and first differences between neighbouring knots, and first
differences of a channel against the mean of the three. They decide only where there are few blocks."""
_USUAL_EXCESS, _USUAL_CHANCE = 1.5, 0.2
"""Prior centres: how much texture adds to a log variance, and what chance does."""
_GAIN = 1.0
"""Prior standard deviation of the log variance of a picture against all."""
_LOG_OUTLIER = math.log(1e-3 / 10)
_MOST_KURTOSIS = 12.0


def estimate(pictures: Iterable[np.ndarray | Tensor], seed: int = 0) -> NoiseModel:
    """The noise model of ``pictures``, without any clean one.

    Every picture is cut into 16 x 16 blocks less a plane. A block has texture or none. Without, the log energies of its
    channels in the fine cosines are those of the level at its mean, times its picture's gain, and Gaussian by the
    chance of a finite sample; with, they are larger by something positive (exponential). Levels, gains, the share of
    texture and both spreads are those of the greatest likelihood, levels being smooth; the ratio of the coarse energy
    to the fine tells texture that is weaker than the noise. So no threshold decides what is flat, and choosing the
    flattest blocks does not bias the level. The correlation is that of the blocks without texture, put right for the
    plane.

    It sees noise as it is where pictures are flat. Cameras that smooth flat places leave more of it on texture.

    Args:
        pictures: (H, W, 3) uint8, uint16 or float32 arrays as ``read_picture`` gives, or (3, H, W) tensors in
            [0, 255]; or all of another number of channels, 1 to 16; read once, one at a time; at most 16,384 blocks
            (25 MB of RGB) are kept.
        seed: of the choice of blocks.

    Raises:
        UserError: there are fewer than 8 usable blocks.
    """
    store = BlockStore(seed=seed)
    for picture in pictures:
        store.add(_as_tensor(picture))
    return _fit(store)


def from_residual(pairs: Iterable[tuple[np.ndarray | Tensor, np.ndarray | Tensor]], seed: int = 0) -> NoiseModel:
    """The noise model of ``noisy - denoised`` for (noisy, denoised) pairs, at the intensities of ``denoised``.

    For strong noise, which hides what is flat. Detail that the denoiser lost counts as texture does in ``estimate``;
    noise that it left in the picture is missing from the model.

    Args and errors are those of ``estimate``.
    """
    store = BlockStore(seed=seed)
    for noisy, denoised in pairs:
        store.add(_as_tensor(noisy), _as_tensor(denoised))
    return _fit(store)


def _as_tensor(picture: np.ndarray | Tensor) -> Tensor:
    channels = picture.shape[0 if isinstance(picture, Tensor) else -1] if picture.ndim == 3 else 0
    if not 0 < channels <= MOST_CHANNELS:
        raise UserError(
            f"picture of shape {tuple(picture.shape)}: an (H, W, C) array or a (C, H, W) tensor is needed, "
            f"C from 1 to {MOST_CHANNELS}"
        )
    return picture.detach().cpu() if isinstance(picture, Tensor) else to_tensor(picture)


@dataclass(frozen=True)
class _Fit:
    """The maximum of the likelihood.

    Attributes:
        knots: (3, KNOTS) median log energy of a block without texture.
        gains: (pictures,) log energy of a picture against all.
        chance: standard deviation of the log energy of a block without texture.
        expected: (N, 3) median log energy that each block would have without texture.
        flat: (N,) probability that it has none.
    """

    knots: Tensor
    gains: Tensor
    chance: float
    expected: Tensor
    flat: Tensor


@torch.inference_mode(mode=False)  # it needs gradients, wherever it is called
def _fit(store: BlockStore) -> NoiseModel:
    if not store.pictures:
        raise UserError("no picture to estimate noise from; give at least one")
    blocks, means, owner = store.blocks()
    blocks = without_plane(blocks.float())  # NaN stays NaN
    if blocks.isfinite().all(2).any(1).sum() < _MINIMUM_BLOCKS:
        raise UserError(
            f"{store.pictures} pictures with fewer than {_MINIMUM_BLOCKS} blocks of {SIDE} x {SIDE} pixels "
            "between black and white; give larger pictures or more of them"
        )
    fine, coarse = _energies(blocks, _RADII[0])
    fit = _most_likely(fine, means, owner, store.pictures)
    shape = _most_likely(coarse - fine, torch.zeros_like(means), owner, store.pictures, _RATIO_CHANCE, 1e-3)
    correlation = _correlation(blocks, fit.expected, fit.flat * shape.flat)
    for radius in _RADII:
        shares, chance = fine_share(correlation, radius)
        if shares.min() >= _LEAST_SHARE:
            break
    fit = _most_likely(_energies(blocks, radius)[0], means, owner, store.pictures, chance)
    model = NoiseModel(means.shape[1])
    model.levels.copy_((fit.knots + fit.chance**2 / 2 - shares.log()[:, None]).div(2).exp())
    model.correlation.copy_(correlation)
    swell = max(0.0, fit.chance**2 - chance**2) / 4
    model.kurtosis.fill_(min(3 * math.exp(4 * swell), _MOST_KURTOSIS))
    model.spread.fill_(fit.gains.std(correction=0) / 2)
    return model


def _energies(blocks: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Log variances (N, 3) of (N, 3, 256) blocks in the fine band of this radius, and in what is coarser."""
    whole = blocks.square().mean(2)
    fine = (blocks @ fine_band(radius).float()).square().sum(2) / SIDE**2
    return fine.clamp(min=_LEAST).log().double(), (whole - fine).clamp(min=_LEAST).log().double()


def _most_likely(
    observed: Tensor,
    means: Tensor,
    owner: Tensor,
    pictures: int,
    usual_chance: float = _USUAL_CHANCE,
    sure: float = 0.5,
) -> _Fit:
    """Fit log energies of blocks.

    Args:
        observed: (N, 3), NaN where a channel is black or white.
        means: (N, 3) intensities.
        owner: (N,) the picture of each block.
        usual_chance, sure: centre of the prior of ``chance`` and standard deviation of its logarithm.
    """
    valid = observed.isfinite()
    seen = torch.where(valid, observed, 0.0)
    position = (means.double().clamp(0, 255) * ((KNOTS - 1) / 255)).clamp(max=KNOTS - 1.001)
    left = position.long()
    part = position - left
    start = seen.masked_fill(~valid, torch.nan).nanquantile(0.3, dim=0)
    knots = start[:, None].repeat(1, KNOTS).requires_grad_()
    above = (seen - start).masked_fill(~valid, torch.nan).nanmean(1)
    first = [above[owner == picture].nanquantile(0.3).nan_to_num(0) for picture in range(pictures)]
    gains = (torch.stack(first) - torch.stack(first).mean()).requires_grad_()
    shape = torch.tensor([0.0, math.log(_USUAL_EXCESS), math.log(usual_chance)], dtype=torch.float64).requires_grad_()

    def expected() -> Tensor:
        curve = knots.T
        level = curve.gather(0, left) * (1 - part) + curve.gather(0, left + 1) * part
        return level + gains[owner, None]

    def likelihoods() -> tuple[Tensor, Tensor]:
        share = torch.nn.functional.logsigmoid(torch.stack([shape[0], -shape[0]]))
        rate, chance = torch.exp(-shape[1]), shape[2].exp()
        off = seen - expected()
        flat = -((off / chance) ** 2) / 2 - shape[2] - math.log(math.sqrt(2 * math.pi))
        textured = -shape[1] - rate * off + (rate * chance) ** 2 / 2
        textured = textured + torch.special.log_ndtr(off / chance - rate * chance)
        return share[0] + (flat * valid).sum(1), share[1] + (textured * valid).sum(1)

    def objective() -> Tensor:
        flat, textured = likelihoods()
        both = torch.logaddexp(torch.logaddexp(flat, textured), _LOG_OUTLIER * valid.sum(1))
        slopes = knots.diff(dim=1)
        prior = (slopes.diff(dim=1) / _ROUGHNESS).square().sum() + (slopes / _SLOPE).square().sum()
        prior = prior + ((slopes - slopes.mean(0)) / _COLOUR).square().sum() + (gains / _GAIN).square().sum()
        prior = prior + ((shape[1] - math.log(_USUAL_EXCESS)) / 0.5).square()
        prior = prior + ((shape[2] - math.log(usual_chance)) / sure).square() + (shape[0] / 3).square()
        return prior / 2 - both.sum()

    optimizer = torch.optim.LBFGS([knots, gains, shape], max_iter=150, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        flat, textured = likelihoods()
        knots += gains.mean()
        gains -= gains.mean()
        return _Fit(
            knots.detach(),
            gains.detach(),
            float(shape[2].exp()),
            expected(),
            torch.sigmoid(flat - textured),
        )


def _correlation(blocks: Tensor, expected: Tensor, flat: Tensor) -> Tensor:
    """(3, 3, 9, 9) correlation of the blocks (N, 3, 256) that are probably flat (N,), before the plane was taken off.

    Each block is brought to level 1 by its ``expected`` log variance.
    """
    chosen = flat >= min(0.5, float(flat.topk(_MINIMUM_BLOCKS).values[-1]))
    noise = blocks[chosen].nan_to_num(0) * (-expected[chosen] / 2).exp().unsqueeze(2).float()
    sums = lag_products(noise).double() / len(noise)
    response = torch.linalg.pinv(plane_response())
    return _valid((response @ sums.flatten(2).unsqueeze(3)).squeeze(3).view_as(sums))


def _valid(covariance: Tensor) -> Tensor:
    """The nearest correlation that noise can have: variances 1, no negative power, nothing beyond REACH."""
    side = 4 * (2 * REACH + 1)
    lags = torch.arange(-REACH, REACH + 1) % side
    for _ in range(30):
        deviation = covariance[..., REACH, REACH].diagonal().clamp(min=1e-6).sqrt()
        covariance = covariance / (deviation[:, None] * deviation)[:, :, None, None]
        values, vectors = torch.linalg.eigh(spectrum(covariance.nan_to_num().double(), side, side))
        power = (vectors * values.clamp(min=1e-3).unsqueeze(-2)) @ vectors.mT
        torus = torch.fft.irfft2(power.permute(2, 3, 0, 1).to(torch.complex128), s=(side, side))
        covariance = torus[:, :, lags[:, None], lags[None]]
    deviation = covariance[..., REACH, REACH].diagonal().sqrt()
    return covariance / (deviation[:, None] * deviation)[:, :, None, None]
