"""How well weights suit pictures of which no clean version is known: by what they take off."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from atbsn.archs.base import Network
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.noise import NoiseModel
from atbsn.noise.sampling import REACH

_BLOCK, _MEAN_BLOCK = 16, 64
_LEAST = 0.5
"""Level below which noise is no more than rounding, grey values."""
_DETAIL_LOSS = 10**0.01
"""By so much, 0.1 dB, may the error on fine detail grow."""
_SCORE_LOSS = 0.1
"""By so much may ``score`` grow."""


@dataclass(frozen=True)
class Judgement:
    """What was taken off, r = noisy - denoised, against the noise n that was estimated.

    Attributes:
        level: of r by that of n; 1 is right, less leaves noise, more takes detail.
        correlation: of neighbouring pixels of r.
        expected: that of n.
        structure: correlation, over blocks of 16 x 16 pixels, of how strong r / n is with how much there is to see
            in the denoised picture; 0 is right, more takes detail where it is.
        noise_error: mean squared error, grey values squared, where the mean of the outputs of all networks that are
            compared is the clean picture, with noise drawn from the model.
        detail_error: the same where the noisy picture, half as large, is the clean one: its detail is finer than any
            that is left in an output, and most of its noise is averaged away.
    """

    level: float
    correlation: float
    expected: float
    structure: float
    noise_error: float
    detail_error: float

    @property
    def score(self) -> float:
        """0 is perfect; the sum of what is wrong with each."""
        level = abs(torch.log(torch.tensor(max(self.level, 1e-3))).item())
        return level + abs(self.correlation - self.expected) + max(0.0, self.structure)

    def is_better_than(self, other: "Judgement") -> bool:
        """Whether the noise is taken off better and no detail pays for it."""
        return self.fault(other) is None

    def fault(self, other: "Judgement") -> str | None:
        """Why these weights are not better than ``other``; None: they are."""
        if self.noise_error >= other.noise_error:
            return "noise of this kind is not taken off better"
        if self.detail_error >= _DETAIL_LOSS * other.detail_error:
            return "fine detail would be lost"
        if self.score >= other.score + _SCORE_LOSS:
            return "what is taken off looks less like noise"
        return None

    def __str__(self) -> str:
        return (
            f"takes off {self.level:.2f} of the estimated noise, correlation {self.correlation:.2f} (noise "
            f"{self.expected:.2f}), structure in it {self.structure:.2f}"
        )


@torch.inference_mode()
def judge(nets: Sequence[Network], pictures: Iterable[Tensor], noise: NoiseModel) -> list[Judgement]:
    """Denoise ``pictures`` as the command does, and look at what each of ``nets`` takes off.

    How much there is to see is told for all of them alike, by the mean of their outputs: a network that smooths detail
    away must not hide that by not showing it.

    Args:
        nets: all on one device.
        pictures: each (3, H, W) in [0, 255], of at least 32 x 32 pixels.
    """
    device = next(nets[0].parameters()).device
    noise = noise.to(device)
    denoisers, traces = [photo_denoiser(net) for net in nets], [_Trace() for _ in nets]
    for index, picture in enumerate(pictures):
        noisy = picture[None].to(device, memory_format=torch.contiguous_format)
        outputs = [denoiser(noisy).float().to(device) for denoiser in denoisers]
        mean = torch.stack(outputs).mean(0)
        level = noise.level(mean.clamp(0, 255).contiguous()).clamp(min=_LEAST)
        seen = (mean / level)[0].cpu()
        steps = seen.diff(dim=1)[..., :-1].square() + seen.diff(dim=2)[:, :-1].square()
        sight = _blocks(F.pad(steps, (0, 1, 0, 1))).log1p()
        again = [_with_noise(clean, noise, index) for clean in (mean, F.avg_pool2d(noisy, 2))]
        for trace, denoiser, output in zip(traces, denoisers, outputs, strict=True):
            trace.add(((noisy - output) / level)[0].cpu(), sight)
            for errors, (clean, made) in zip((trace.noise_errors, trace.detail_errors), again, strict=True):
                errors.append(_error(denoiser(made).float().to(device), clean).cpu())
    return [trace.judgement(noise) for trace in traces]


class _Trace:
    """What one network takes off picture after picture."""

    def __init__(self) -> None:
        self.noise_errors: list[Tensor] = []
        self.detail_errors: list[Tensor] = []
        self.energies: list[Tensor] = []
        self.sights: list[Tensor] = []
        self.products, self.squares = torch.zeros(2), torch.zeros(2)

    def add(self, relative: Tensor, sight: Tensor) -> None:
        """Take the residual by the level of the noise, (3, H, W), and how much there is to see in each block."""
        relative = relative - relative.mean(dim=(1, 2), keepdim=True)
        for axis in (1, 2):
            length = relative.shape[axis] - 1
            first, second = relative.narrow(axis, 0, length), relative.narrow(axis, 1, length)
            self.products[axis - 1] += (first * second).sum()
            self.squares[axis - 1] += (first.square() + second.square()).sum() / 2
        self.energies.append(_blocks(relative.square()))
        self.sights.append(sight)

    def judgement(self, noise: NoiseModel) -> Judgement:
        energy, sight = torch.cat(self.energies), torch.cat(self.sights)
        expected = noise.correlation.diagonal()[[REACH, REACH + 1], [REACH + 1, REACH]].mean()
        structure = torch.corrcoef(torch.stack([energy.add(1e-6).log(), sight]))[0, 1].nan_to_num()
        return Judgement(
            float(energy.mean().sqrt()),
            float((self.products / self.squares.clamp(min=1e-9)).mean()),
            float(expected),
            float(structure),
            float(torch.stack(self.noise_errors).mean()),
            float(torch.stack(self.detail_errors).mean()),
        )


def _with_noise(clean: Tensor, noise: NoiseModel, seed: int) -> tuple[Tensor, Tensor]:
    """``clean``, (1, 3, H, W), and what a camera with ``noise`` would have made of it, the same for all networks."""
    generator = torch.Generator(clean.device).manual_seed(seed)
    return clean, (clean + noise.sample(clean.clamp(0, 255), generator, clipped=False)).clamp(0, 255).round()


def _error(output: Tensor, clean: Tensor) -> Tensor:
    """Mean squared error but for the mean of blocks of 64 x 64 pixels, which is not what tells networks apart here."""
    error = output - clean
    mean = F.avg_pool2d(error, _MEAN_BLOCK, ceil_mode=True, count_include_pad=False)
    mean = F.interpolate(mean, scale_factor=_MEAN_BLOCK, mode="nearest")[..., : error.shape[2], : error.shape[3]]
    return (error - mean).square().mean()


def _blocks(values: Tensor) -> Tensor:
    """(3, H, W) to the means of its 16 x 16 blocks, flat."""
    return F.avg_pool2d(values.mean(0)[None, None], _BLOCK, ceil_mode=False).flatten()
