"""Which of several networks with the very same names and shapes bare weights were trained for.

A network on [0, 1] and one on [0, 255] are the same but for what a grey value is worth beside the biases. Nothing in a
file of tensors alone says it, and the wrong one denoises, too, only worse: APR-RD's student by 0.8 dB. So both are
tried on a noisy picture whose clean version is known.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atbsn.archs import build_arch
from atbsn.archs.base import BlindSpotNetwork

_SURE = 0.97
"""The other network is believed where its error is at most this share of the first one's. Tried on three: the released
student of APR-RD, 0.79 read as [0, 1]; one trained for [0, 1] for some minutes, 0.95, and one for [0, 255], 2.4."""
_SIDE = 96
"""Pixels: three squares of 32, which is what five poolings need, both ways."""
_NOISE = 25.0
"""Grey values. Strong noise tells: how much of it is taken off depends on the biases."""
_EXPOSURES = (0.15, 0.3, 0.6)
"""Brightness of the pictures; where noise is strong it is dark."""


@dataclass(frozen=True)
class Verdict:
    """What a trial says.

    Attributes:
        options: of the network that these weights are likeliest of.
        error: its root mean squared error, grey values of 255.
        others: those of the networks that it was chosen from.
    """

    options: Mapping[str, Any]
    error: float
    others: tuple[float, ...]


def likeliest(
    options: Mapping[str, Any], lookalikes: Sequence[Mapping[str, Any]], params: dict[str, Tensor]
) -> Verdict:
    """Find which of ``options`` and its ``lookalikes`` the weights ``params`` were trained for. All have their shapes.

    It is ``options``, unless another network denoises, and clearly better.
    """
    clean, noisy = _pictures(options.get("channels", 3))
    found = [_error(each, params, clean, noisy) for each in (options, *lookalikes)]
    best = min(range(len(found)), key=lambda number: found[number])
    if found[best] > _SURE * found[0] or found[best] > _rms(noisy - clean):
        best = 0
    others = tuple(error for number, error in enumerate(found) if number != best)
    return Verdict((options, *lookalikes)[best], found[best], others)


def _error(options: Mapping[str, Any], params: dict[str, Tensor], clean: Tensor, noisy: Tensor) -> float:
    with torch.random.fork_rng(devices=[]):  # initial values are drawn, and thrown away
        net = build_arch(dict(options)).eval()
    net.load_state_dict(type(net).convert_state(params) or params)
    how: dict[str, Any] = {"k": 3} if isinstance(net, BlindSpotNetwork) else {}
    with torch.inference_mode():
        error = _rms(net.denoise(noisy, **how) - clean)
    return error if math.isfinite(error) else math.inf


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _pictures(channels: int) -> tuple[Tensor, Tensor]:
    """A clean picture of ramps and bars at three exposures, (3, C, 96, 96), and the same with correlated noise.

    Channels beyond the third are the first ones again.
    """
    ramp = torch.linspace(0, 1, _SIDE)
    down, across = torch.meshgrid(ramp, ramp, indexing="ij")
    clean = torch.stack((30 + 180 * down, 60 + 120 * across, 200 - 70 * (down + across)))
    clean[:, :, _SIDE // 2 :] += 30 * (torch.arange(_SIDE) // 8 % 2)[:, None]
    clean = clean[[channel % 3 for channel in range(channels)]] * torch.tensor(_EXPOSURES)[:, None, None, None]
    white = torch.randn(len(_EXPOSURES), channels, _SIDE + 1, _SIDE + 1, generator=torch.Generator().manual_seed(0))
    noise = _NOISE * 2 * F.avg_pool2d(white, 2, stride=1)  # neighbours are correlated by 1/2, as on SIDD
    return clean, (clean + noise).clamp(0, 255).round()
