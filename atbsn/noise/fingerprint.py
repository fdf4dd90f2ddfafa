"""The fingerprint of a noise: its levels, correlations and spectrum, in the few numbers that cameras differ in."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

BANDS = (0.08, 0.2, 0.35, 0.5)
"""Radial frequencies, cycles a pixel, between which power is told; what is lower is colour and shading, not noise."""
_SIDE = 64
"""Pixels of the blocks whose spectra are averaged: the lowest frequency is 1/64."""
_INTENSITIES = 8
"""Intervals of [0, 255] in which the level is told."""


@dataclass(frozen=True)
class Fingerprint:
    """Second-order statistics of a noise of zero mean, in grey values; ``nan`` where nothing was seen.

    Attributes:
        level: standard deviation of red, green and blue.
        along, down, diagonal: correlation of a pixel's noise with that of its neighbour in the row, in the column, and
            across the corner; of red, green and blue.
        channels: correlation of red with green, green with blue, red with blue.
        power: shares of the spectrum between the radial frequencies ``BANDS`` and above the last; they sum to 1.
        by_intensity: standard deviation of all channels in equal intervals of the clean value, dark to bright.
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
        """Of ``(noise, clean)`` pairs, each (B, 3, H, W) or (3, H, W), [0, 255], of any sizes from 64 pixels on.

        What is slower than ``BANDS[0]`` is left out of correlations and levels, too: it is what a reference has of
        another light or a network of another colour.

        Raises:
            ValueError: no pair, or a side of fewer than 64 pixels.
        """
        spectrum, seen = torch.zeros(3, 3, _SIDE, _SIDE, dtype=torch.complex64), 0
        squares, counts = torch.zeros(_INTENSITIES), torch.zeros(_INTENSITIES)
        for noise, clean in pairs:
            blocks = _blocks(noise)
            spectrum += _spectrum(blocks).cpu()
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
        """Of the mean cross-spectra of the blocks, (3, 3, 64, 64)."""
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
    """(N, 3, 64, 64) blocks of (B, 3, H, W) or (3, H, W); what is left over at the right and below is not used."""
    x = x.float() if x.dim() == 4 else x.float()[None]
    if min(x.shape[-2:]) < _SIDE:
        raise ValueError(f"{x.shape[-2]}x{x.shape[-1]} pixels: at least {_SIDE}x{_SIDE} are needed")
    return x.unfold(-2, _SIDE, _SIDE).unfold(-2, _SIDE, _SIDE).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


def _spectrum(blocks: Tensor) -> Tensor:
    """(3, 3, 64, 64) cross-spectra, summed over the blocks; a Hann window keeps edges from leaking."""
    window = torch.hann_window(_SIDE, periodic=True, device=blocks.device)
    window = window[:, None] * window
    window = window / window.square().mean().sqrt()
    waves = torch.fft.fft2((blocks - blocks.mean((-2, -1), keepdim=True)) * window)
    return torch.einsum("nihw,njhw->ijhw", waves, waves.conj()) / _SIDE**2


def _high_pass(blocks: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(blocks) * (radius(blocks.device) >= BANDS[0])).real


def radius(device: torch.device) -> Tensor:
    frequency = torch.fft.fftfreq(_SIDE, device=device)
    return (frequency[:, None].square() + frequency.square()).sqrt()
