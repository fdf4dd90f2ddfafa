"""Small blocks of many pictures, and what subtracting a fitted plane does to their noise."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from atbsn.noise.sampling import REACH
from atbsn.noise.usable import clipped_channels, without_noise
from atbsn.ops.cosines import dct_matrix

SIDE = 16
"""Pixels: side of a block. Chosen by hand."""
_PIXELS = SIDE * SIDE
"""Number of pixels of a block."""
_STRATA = 16
"""Number of equal intervals of [0, 255] over which the kept blocks of a picture are spread evenly. Chosen by hand."""


class BlockStore:
    """Keeps a bounded number of blocks of any number of pictures.

    Each picture may keep ``per_picture`` blocks, spread evenly over its intensities. When ``capacity`` is exceeded, a
    random half of the blocks of every picture is dropped, and later pictures keep half as many.

    Args:
        capacity: most blocks that are kept.
        per_picture: most blocks of one picture.
        seed: seed of the choice of blocks.

    Attributes:
        pictures: number of pictures added.
    """

    def __init__(self, capacity: int = 16384, per_picture: int = 4096, seed: int = 0) -> None:
        self._capacity = capacity
        self._per_picture = per_picture
        self._rng = np.random.default_rng(seed)
        self._noise: list[Tensor] = []
        self._means: list[Tensor] = []
        self._owner: list[int] = []
        self.pictures = 0

    def add(self, noisy: Tensor, base: Tensor | None = None) -> None:
        """Add blocks of ``noisy`` (C, H, W), [0, 255], or of ``noisy - base`` at the intensities of ``base``.

        Blocks that do not show their noise are left out: see ``clipped_channels`` and ``without_noise``.
        """
        blocks = _cut(noisy)
        means = blocks.mean(2) if base is None else _cut(base).mean(2)
        clipped = clipped_channels(blocks)
        variance = without_plane(blocks).square().mean(2).masked_fill(clipped, torch.nan).nanmean(1)
        usable = variance.isfinite()
        usable[usable.clone()] &= ~without_noise(variance[usable], blocks[usable].mean((1, 2)))
        chosen = self._spread(means.mean(1), usable)
        noise = blocks[chosen] if base is None else blocks[chosen] - _cut(base)[chosen]
        noise = noise.masked_fill(clipped[chosen].unsqueeze(2), torch.nan)
        self._noise.append(noise.half())
        self._means.append(means[chosen])
        self._owner.append(self.pictures)
        self.pictures += 1
        while sum(map(len, self._means)) > self._capacity and self._per_picture > 1:
            self._thin()

    def _spread(self, intensity: Tensor, usable: Tensor) -> np.ndarray:
        """Choose at most ``per_picture`` usable blocks evenly over the intensities; the result is their indices."""
        indices = self._rng.permutation(np.flatnonzero(usable.numpy()))
        if len(indices) <= self._per_picture:
            return np.sort(indices)
        stratum = (intensity.numpy()[indices] * (_STRATA / 256)).astype(int).clip(0, _STRATA - 1)  # floats go beyond
        order = np.argsort(stratum, kind="stable")
        rank = np.empty(len(indices), int)
        starts = np.searchsorted(stratum[order], np.arange(_STRATA))
        rank[order] = np.arange(len(indices)) - starts[stratum[order]]
        return np.sort(indices[np.argsort(rank, kind="stable")[: self._per_picture]])

    def _thin(self) -> None:
        self._per_picture = max(1, self._per_picture // 2)
        for index, means in enumerate(self._means):
            kept = np.sort(self._rng.permutation(len(means))[: max(1, len(means) // 2)])
            self._means[index], self._noise[index] = means[kept], self._noise[index][kept]

    def blocks(self) -> tuple[Tensor, Tensor, Tensor]:
        """All blocks (N, C, 256), NaN where a channel is clipped; their means (N, C); the index of the picture of each
        block (N,)."""
        owner = torch.repeat_interleave(torch.tensor(self._owner), torch.tensor([len(means) for means in self._means]))
        return torch.cat(self._noise), torch.cat(self._means), owner


def _cut(picture: Tensor) -> Tensor:
    """Cut ``picture`` (C, H, W) into the blocks (N, C, 256) that fit side by side."""
    channels, height, width = picture.shape
    whole = picture[:, : height // SIDE * SIDE, : width // SIDE * SIDE].float()
    blocks = whole.unflatten(2, (-1, SIDE)).unflatten(1, (-1, SIDE))
    return blocks.permute(1, 3, 0, 2, 4).reshape(-1, channels, _PIXELS)


def without_plane(blocks: Tensor) -> Tensor:
    """Subtract from each block (..., 256) the plane that fits it best."""
    basis = _plane().to(blocks)
    return blocks - (blocks @ basis) @ basis.T


@cache
def _plane() -> Tensor:
    """An orthonormal basis (256, 3) of planes: a constant and two slopes."""
    slope = torch.arange(SIDE) - (SIDE - 1) / 2
    down, across = torch.meshgrid(slope, slope, indexing="ij")
    basis = torch.stack([torch.ones(SIDE, SIDE), down, across]).flatten(1).T
    return basis / basis.norm(dim=0)


def lag_products(noise: Tensor) -> Tensor:
    """Sum noise_i(p) noise_j(p + d) over all pixels of blocks (N, C, 256): (C, C, 9, 9), made even in d."""
    padded = 2 * SIDE
    power = torch.zeros(())
    for part in noise.split(1024):
        transformed = torch.fft.rfft2(part.unflatten(2, (SIDE, SIDE)), s=(padded, padded))
        power = power + torch.einsum("nihw,njhw->ijhw", transformed.conj(), transformed)
    lags = torch.arange(-REACH, REACH + 1) % padded
    sums = torch.fft.irfft2(power, s=(padded, padded))[:, :, lags[:, None], lags[None]]
    return (sums + sums.flip(2, 3)) / 2


@cache
def plane_response() -> Tensor:
    """The matrix (81, 81) by which ``without_plane`` changes a covariance: measured sums = response @ true covariance.

    It holds for one block. Entry [d, e] is the sum over p of (P T_e P)[p, p + d], where T_e has ones at lag +e or -e
    (half each) and P subtracts the plane. Correlation beyond ``REACH`` pixels is taken for zero.
    """
    count = 2 * REACH + 1
    shifts = torch.stack([block_covariance(lag.view(count, count)) for lag in torch.eye(count * count).double()])
    basis = _plane().double()
    keep = torch.eye(_PIXELS, dtype=torch.float64) - basis @ basis.T
    even = (shifts + shifts.mT) / 2
    return torch.einsum("dpq,epq->de", even, keep @ even @ keep)


def block_covariance(correlation: Tensor) -> Tensor:
    """Make the covariance (256, 256) of the pixels of a block from the correlation (9, 9) of one channel."""
    row, column = torch.arange(_PIXELS) // SIDE, torch.arange(_PIXELS) % SIDE
    down, across = row - row[:, None], column - column[:, None]
    inside = (down.abs() <= REACH) & (across.abs() <= REACH)
    return correlation[down.clamp(-REACH, REACH) + REACH, across.clamp(-REACH, REACH) + REACH] * inside


@cache
def fine_band(radius: int) -> Tensor:
    """An orthonormal basis (256, M): the DCT-II functions of a block with at least ``radius`` half waves.

    The number of half waves of a function is sqrt(u^2 + v^2), u of them down and v across.
    """
    steps, cosines = torch.arange(SIDE), dct_matrix(SIDE)
    chosen = (steps[:, None] ** 2 + steps**2 >= radius**2).flatten()
    return torch.kron(cosines, cosines)[chosen].T.contiguous()


def fine_share(correlation: Tensor, radius: int) -> tuple[Tensor, float]:
    """Compute how much noise of this correlation (C, C, 9, 9) the ``fine_band`` holds.

    Returns:
        The share (C,) of the variance of the noise, and the sampling standard deviation of the log energy in one block
        of Gaussian noise (mean of the channels).
    """
    band = fine_band(radius)
    shares, chances = [], []
    for channel in range(len(correlation)):
        covariance = band.T @ block_covariance(correlation[channel, channel].double()) @ band
        shares.append(covariance.trace() / _PIXELS)
        chances.append((2 * covariance.square().sum()).sqrt() / covariance.trace())
    return torch.stack(shares), float(torch.stack(chances).mean())
