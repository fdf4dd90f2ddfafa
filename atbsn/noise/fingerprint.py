"""Fingerprints of noise: levels, correlations and spectrum, in the few numbers in which cameras differ."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

BANDS = (0.08, 0.2, 0.35, 0.5)
"""Cycles a pixel: limits of the bands of radial frequency whose power is given. Power below the first is colour and
shading, not noise. Chosen by hand."""
SIDE = 64
"""Pixels: side of the blocks whose spectra are averaged. The lowest frequency is 1/64 cycle a pixel. Chosen by hand."""
_INTENSITIES = 8
"""Number of equal intervals of [0, 255] in which the level is given. Chosen by hand."""


@dataclass(frozen=True)
class Fingerprint:
    """Second-order statistics of noise of zero mean. A number is NaN where no pixel was measured.

    Attributes:
        level: standard deviation of red, green and blue, grey values.
        along, down, diagonal: correlation of the noise of neighbouring pixels in a row, in a column and across the
            corner, of red, green and blue.
        channels: correlation of red with green, of green with blue and of red with blue.
        power: shares of the power spectrum between the radial frequencies ``BANDS`` and above the last; their sum is 1.
        by_intensity: standard deviation of all channels in equal intervals of the clean value, from dark to bright.
    """

    level: tuple[float, ...]
    along: tuple[float, ...]
    down: tuple[float, ...]
    diagonal: tuple[float, ...]
    channels: tuple[float, ...]
    power: tuple[float, ...]
    by_intensity: tuple[float, ...]

    @classmethod
    def of(cls, pairs: Iterable[tuple[Tensor, Tensor]]) -> "Fingerprint":
        """Measure ``(noise, clean)`` pairs, each (B, 3, H, W) or (3, H, W), [0, 255], with sides of 64 pixels or more.

        Frequencies below ``BANDS[0]`` are left out of correlations and levels too. There, a reference differs by its
        light and the output of a network by its colour.

        Raises:
            ValueError: no pair, or a side of fewer than 64 pixels.
        """
        spectrum, seen = torch.zeros(3, 3, SIDE, SIDE, dtype=torch.complex64), 0
        squares, counts = torch.zeros(_INTENSITIES), torch.zeros(_INTENSITIES)
        for noise, clean in pairs:
            blocks = _blocks(noise)
            spectrum += cross_spectrum(blocks).cpu()
            seen += len(blocks)
            fine, around = _high_pass(blocks), _blocks(clean)
            place = (around * (_INTENSITIES / 256)).long().clamp(0, _INTENSITIES - 1).flatten()
            squares.index_add_(0, place.cpu(), fine.square().flatten().cpu())
            counts.index_add_(0, place.cpu(), torch.ones(place.numel()))
        if not seen:
            raise ValueError("no pictures: give at least one")
        return cls._from(spectrum / seen, (squares / counts).sqrt())

    @classmethod
    def _from(cls, spectrum: Tensor, by_intensity: Tensor) -> "Fingerprint":
        """Make a fingerprint of the mean cross-spectra of blocks, (3, 3, 64, 64)."""
        away = radius(spectrum.device)
        spectrum = spectrum * (away >= BANDS[0])
        covariance = torch.fft.ifft2(spectrum).real
        variance = torch.stack([covariance[place, place, 0, 0] for place in range(3)])

        def lag(down: int, along: int) -> tuple[float, ...]:
            return tuple(float(covariance[place, place, down, along] / variance[place]) for place in range(3))

        def between(first: int, second: int) -> float:
            return float(covariance[first, second, 0, 0] / (variance[first] * variance[second]).sqrt())

        power = torch.stack([spectrum[place, place].real for place in range(3)]).sum(0)
        edges = (*BANDS, 1.0)
        bands = [power[(away >= low) & (away < high)].sum() for low, high in pairwise(edges)]
        return cls(
            level=tuple(variance.sqrt().tolist()),
            along=lag(0, 1),
            down=lag(1, 0),
            diagonal=tuple((a + b) / 2 for a, b in zip(lag(1, 1), lag(1, -1), strict=True)),
            channels=(between(0, 1), between(1, 2), between(0, 2)),
            power=tuple(float(band / power.sum()) for band in bands),
            by_intensity=tuple(by_intensity.tolist()),
        )


def _blocks(x: Tensor) -> Tensor:
    """Cut (B, 3, H, W) or (3, H, W) into blocks (N, 3, 64, 64); what is left over at the right and below is not
    used."""
    x = x.float() if x.dim() == 4 else x.float()[None]
    if min(x.shape[-2:]) < SIDE:
        raise ValueError(f"{x.shape[-2]}x{x.shape[-1]} pixels: at least {SIDE}x{SIDE} are needed")
    return x.unfold(-2, SIDE, SIDE).unfold(-2, SIDE, SIDE).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


def cross_spectrum(blocks: Tensor) -> Tensor:
    """Sum the cross-spectra (..., 3, 3, 64, 64) of blocks (..., N, 3, 64, 64), under a Hann window against leakage."""
    window = torch.hann_window(SIDE, periodic=True, device=blocks.device)
    window = window[:, None] * window
    window = window / window.square().mean().sqrt()
    waves = torch.fft.fft2((blocks - blocks.mean((-2, -1), keepdim=True)) * window)
    return torch.einsum("...nihw,...njhw->...ijhw", waves, waves.conj()) / SIDE**2


def _high_pass(blocks: Tensor) -> Tensor:
    """Take the frequencies below ``BANDS[0]`` out of blocks (N, 3, 64, 64)."""
    return torch.fft.ifft2(torch.fft.fft2(blocks) * (radius(blocks.device) >= BANDS[0])).real


def radius(device: torch.device) -> Tensor:
    """The radial frequency of each coefficient of a block's spectrum, cycles a pixel: (64, 64)."""
    frequency = torch.fft.fftfreq(SIDE, device=device)
    return (frequency[:, None].square() + frequency.square()).sqrt()
