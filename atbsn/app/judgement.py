"""How well weights suit pictures of which no clean version is known: by what they take off."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from atbsn.app.clean import photo_denoiser
from atbsn.archs.base import Network
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.noise import NoiseModel
from atbsn.noise.camera import gaussian_blur
from atbsn.noise.sampling import REACH

_BLOCK = 16
_ALPHA = 0.5
_LEAST = 0.5
"""Level below which noise is no more than rounding, grey values."""


@dataclass(frozen=True)
class Judgement:
    """What was taken off, r = noisy - denoised, against the noise n that was estimated.

    Attributes:
        level: of r by that of n; 1 is right, less leaves noise, more takes detail.
        correlation: of neighbouring pixels of r.
        expected: that of n.
        structure: correlation, over blocks of 16 x 16 pixels, of how strong r / n is with how much there is to see
            in the denoised picture; 0 is right, more takes detail where it is.
        risk: mean of (N(y + a n') - (y - n' / a))^2 - (n' / a)^2 with noise n' drawn anew (``RecorruptModel``): the
            squared error for noise sqrt(1 + a^2) times as strong, but for a constant that all networks share; less is
            better. nan: not computed.
    """

    level: float
    correlation: float
    expected: float
    structure: float
    risk: float = math.nan

    @property
    def score(self) -> float:
        """0 is perfect; the sum of what is wrong with each."""
        level = abs(torch.log(torch.tensor(max(self.level, 1e-3))).item())
        return level + abs(self.correlation - self.expected) + max(0.0, self.structure)

    def is_better_than(self, other: "Judgement") -> bool:
        """Whether both ``score`` and ``risk`` say so: each alone is wrong now and then, hardly ever together."""
        return self.score < other.score and self.risk < other.risk

    def __str__(self) -> str:
        return (
            f"takes off {self.level:.2f} of the estimated noise, correlation {self.correlation:.2f} (noise "
            f"{self.expected:.2f}), structure in it {self.structure:.2f}"
        )


@torch.inference_mode()
def judge(net: Network, pictures: Iterable[Tensor], noise: NoiseModel) -> Judgement:
    """Denoise ``pictures`` as the command does, and look at what is taken off.

    Args:
        pictures: each (3, H, W) in [0, 255], of at least 32 x 32 pixels.
    """
    device, denoiser = next(net.parameters()).device, photo_denoiser(net)
    risks: list[Tensor] = []
    energies, sights, products, squares = [], [], torch.zeros(2), torch.zeros(2)
    for picture in pictures:
        noisy = picture[None].to(device, memory_format=torch.contiguous_format)
        clean = denoiser(noisy, "").float().to(device)
        risks.append(_risk(denoiser, noisy, noise.to(device), len(risks)).cpu())
        level = noise.level(clean.clamp(0, 255).contiguous()).clamp(min=_LEAST)
        relative = ((noisy - clean) / level)[0].cpu()
        relative = relative - relative.mean(dim=(1, 2), keepdim=True)
        for axis in (1, 2):
            length = relative.shape[axis] - 1
            first, second = relative.narrow(axis, 0, length), relative.narrow(axis, 1, length)
            products[axis - 1] += (first * second).sum()
            squares[axis - 1] += (first.square() + second.square()).sum() / 2
        seen = (clean / level)[0].cpu()
        steps = seen.diff(dim=1)[..., :-1].square() + seen.diff(dim=2)[:, :-1].square()
        energies.append(_blocks(relative.square()))
        sights.append(_blocks(torch.nn.functional.pad(steps, (0, 1, 0, 1))).log1p())
    energy, sight = torch.cat(energies), torch.cat(sights)
    expected = noise.correlation.diagonal()[[REACH, REACH + 1], [REACH + 1, REACH]].mean()
    structure = torch.corrcoef(torch.stack([energy.add(1e-6).log(), sight]))[0, 1].nan_to_num()
    return Judgement(
        float(energy.mean().sqrt()),
        float((products / squares.clamp(min=1e-9)).mean()),
        float(expected),
        float(structure),
        float(torch.stack(risks).mean()),
    )


def _risk(denoiser: Denoiser, noisy: Tensor, noise: NoiseModel, seed: int) -> Tensor:
    """``Judgement.risk`` of one picture, (1, 3, H, W), for noise that is the same for all networks."""
    generator = torch.Generator(noisy.device).manual_seed(seed)
    around = gaussian_blur(noisy, noisy.new_full((1, 3), 2.0))
    drawn = noise.sample(around, generator, clipped=True)
    output = denoiser(noisy + _ALPHA * drawn, "").float().to(noisy.device)
    target = noisy - drawn / _ALPHA
    return (output - target).square().mean() - (drawn / _ALPHA).square().mean()


def _blocks(values: Tensor) -> Tensor:
    """(3, H, W) to the means of its 16 x 16 blocks, flat."""
    return torch.nn.functional.avg_pool2d(values.mean(0)[None, None], _BLOCK, ceil_mode=False).flatten()
