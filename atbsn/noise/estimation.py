"""Estimate a noise model from noisy pictures alone, or from what a denoiser took off them."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from atbsn.noise.blocks import SIDE, BlockStore, fine_band, fine_share, lag_products, plane_response, without_plane
from atbsn.noise.mixture import Mixture
from atbsn.noise.model import MAX_CHANNELS, NoiseModel
from atbsn.noise.sampling import REACH, spectrum
from atbsn.pictures import to_tensor
from atbsn.utils.errors import UserError

_MIN_VARIANCE = 0.02
"""Grey values squared: smallest variance that a block is taken to have, so that its logarithm is finite. Chosen by hand
below 1 / 12, the variance of rounding to whole grey values."""
_RADII = (6, 4, 2, 0)
"""Radii of the ``fine_band`` in which the level is looked for, in half waves a block, tried in this order: texture is
coarser than most noise, so the finest band that holds enough of the noise is the best."""
_MIN_SHARE = 0.2
"""Smallest share of the noise's variance that the chosen band must hold. Chosen by hand."""
_RATIO_STD = 0.3
"""Sampling standard deviation of log(coarse energy / fine energy) of a block without texture. White noise has 0.25 and
SIDD's noise 0.35. It is fixed and not fitted, since a picture full of mild texture would be fitted with a large one."""
_MIN_BLOCKS = 8
"""Fewest blocks that noise is estimated from. Chosen by hand: with fewer, the priors decide."""
_MAX_KURTOSIS = 12.0
"""Largest kurtosis of a noise model. Chosen by hand: more comes from texture that was taken for noise."""


def estimate(pictures: Iterable[np.ndarray | Tensor], seed: int = 0) -> NoiseModel:
    """Estimate the noise model of ``pictures`` without any clean picture.

    Every picture is cut into blocks of 16 x 16 pixels, and the plane that fits a block best is subtracted from it. A
    block either has texture or has none (a mixture model):

    - Without texture, the log energies of its channels in the high frequencies are Gaussian around the noise-level
      function at the mean of the block, plus the gain of its picture. Their spread is the sampling standard deviation
      of a finite block.
    - With texture, something positive is added that has an exponential distribution.

    The noise-level function (smooth), the gains, the share of texture and both spreads maximise the likelihood. The
    ratio of coarse to fine energy finds texture that is weaker than the noise. So no threshold decides what is flat,
    and there is no selection bias from choosing the flattest blocks. The correlation is that of the blocks without
    texture, corrected for the plane.

    The result is the noise of flat places. Cameras that smooth flat places leave more noise on texture.

    Args:
        pictures: (H, W, C) uint8, uint16 or float32 arrays as ``read_picture`` gives, or (C, H, W) tensors in
            [0, 255], all with the same number C of channels, 1 to 16. They are read once, one at a time, and at most
            16,384 blocks are kept (25 MB of RGB).
        seed: seed of the choice of blocks.

    Raises:
        UserError: there are fewer than 8 usable blocks, or a channel has none.
    """
    store = BlockStore(seed=seed)
    for picture in pictures:
        store.add(_as_tensor(picture))
    return _fit(store)


def from_residual(pairs: Iterable[tuple[np.ndarray | Tensor, np.ndarray | Tensor]], seed: int = 0) -> NoiseModel:
    """Estimate the noise model of ``noisy - denoised`` for (noisy, denoised) pairs, at the intensities of ``denoised``.

    It is meant for noise so strong that it hides which places are flat. Detail that the denoiser removed is treated as
    ``estimate`` treats texture. Noise that the denoiser left in the picture is missing from the model.

    The arguments and errors are those of ``estimate``.
    """
    store = BlockStore(seed=seed)
    for noisy, denoised in pairs:
        store.add(_as_tensor(noisy), _as_tensor(denoised))
    return _fit(store)


def _as_tensor(picture: np.ndarray | Tensor) -> Tensor:
    channels = picture.shape[0 if isinstance(picture, Tensor) else -1] if picture.ndim == 3 else 0
    if not 0 < channels <= MAX_CHANNELS:
        raise UserError(
            f"picture of shape {tuple(picture.shape)}: an (H, W, C) array or a (C, H, W) tensor is needed, "
            f"C from 1 to {MAX_CHANNELS}"
        )
    return picture.detach().cpu() if isinstance(picture, Tensor) else to_tensor(picture)


@torch.inference_mode(mode=False)  # it needs gradients, wherever it is called
def _fit(store: BlockStore) -> NoiseModel:
    """Fit the noise model to the blocks in ``store``; see ``estimate``."""
    if not store.pictures:
        raise UserError("no picture to estimate noise from; give at least one")
    blocks, means, owner = store.blocks()
    blocks = without_plane(blocks.float())  # NaN stays NaN
    seen = blocks.isfinite().all(2)
    if seen.any(1).sum() < _MIN_BLOCKS:
        raise UserError(
            f"{store.pictures} pictures with fewer than {_MIN_BLOCKS} blocks of {SIDE} x {SIDE} pixels "
            "between black and white; give larger pictures or more of them"
        )
    if not seen.any(0).all():
        channel = int(seen.any(0).int().argmin()) + 1
        raise UserError(
            f"channel {channel} of the pictures is black or white everywhere, so its noise cannot be seen; leave the "
            "channel out, or give pictures that show it"
        )
    own, owner = owner.unique(return_inverse=True)  # a picture without any usable block has no gain
    fine, coarse = _energies(blocks, _RADII[0])
    fit = Mixture(fine, means, owner, len(own)).fit()
    # The ratio of coarse to fine energy does not depend on the intensity, so all blocks are fitted as if of mean 0.
    ratio = Mixture(coarse - fine, torch.zeros_like(means), owner, len(own), _RATIO_STD, is_known=True).fit()
    correlation = _correlation(blocks, fit.expected, fit.flat * ratio.flat)
    for radius in _RADII:
        shares, gaussian_std = fine_share(correlation, radius)
        if shares.min() >= _MIN_SHARE:
            break
    fit = Mixture(_energies(blocks, radius)[0], means, owner, len(own), gaussian_std).fit()
    model = NoiseModel(means.shape[1])
    # The mean of a log-normal energy is its median times exp(std^2 / 2).
    model.levels.copy_((fit.knots + fit.sampling_std**2 / 2 - shares.log()[:, None]).div(2).exp())
    model.correlation.copy_(correlation)
    # What Gaussian noise does not explain of the spread is that of the random scale: kurtosis = 3 exp(4 var(log u)).
    scale_variance = max(0.0, fit.sampling_std**2 - gaussian_std**2) / 4
    model.kurtosis.fill_(min(3 * math.exp(4 * scale_variance), _MAX_KURTOSIS))
    model.spread.fill_(fit.gains.std(correction=0) / 2)
    return model


def _energies(blocks: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Log variances (N, C) of blocks (N, C, 256): in the ``fine_band`` of this radius, and in what is coarser."""
    whole = blocks.square().mean(2)
    fine = (blocks @ fine_band(radius).float()).square().sum(2) / SIDE**2
    return fine.clamp(min=_MIN_VARIANCE).log().double(), (whole - fine).clamp(min=_MIN_VARIANCE).log().double()


def _correlation(blocks: Tensor, expected: Tensor, flat: Tensor) -> Tensor:
    """Estimate the correlation (C, C, 9, 9) that noise had before planes were subtracted from its blocks.

    Args:
        blocks: (N, C, 256) less their planes.
        expected: (N, C) log variances, by which each block is scaled to variance 1.
        flat: (N,) probability that a block has no texture; those with at least 0.5 are used.
    """
    chosen = flat >= min(0.5, float(flat.topk(_MIN_BLOCKS).values[-1]))
    noise = blocks[chosen].nan_to_num(0) * (-expected[chosen] / 2).exp().unsqueeze(2).float()
    sums = lag_products(noise).double() / len(noise)
    response = torch.linalg.pinv(plane_response())
    return _valid((response @ sums.flatten(2).unsqueeze(3)).squeeze(3).view_as(sums))


def _valid(covariance: Tensor) -> Tensor:
    """Project ``covariance`` onto those that noise can have: variances 1, no negative power, zero beyond ``REACH``.

    The projections are repeated in turn 30 times, chosen by hand: later ones change nothing that is seen.
    """
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
