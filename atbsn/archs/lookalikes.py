"""Find which of several networks with the same names and shapes a file of weights was trained for.

A network that computes on [0, 1] and one that computes on [0, 255] differ only in the scale of a grey value against the
biases. A file of tensors does not tell which it is. The wrong network denoises too, but worse: APR-RD's student by
0.8 dB. So both are tried on a noisy picture whose clean version is known.
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

_MAX_ERROR_RATIO = 0.97
"""Largest ratio of another network's error to the first network's at which the other one is chosen. Chosen by hand from
three students. Read as [0, 1], the ratio is 0.79 for APR-RD's released one, 0.95 for one that was trained on [0, 1] for
some minutes, and 2.4 for one that was trained on [0, 255]."""
_SIDE = 96
"""Pixels: side of the pictures, three times the 32 that five poolings need. Chosen by hand."""
_NOISE = 25.0
"""Grey values: standard deviation of the noise. Chosen by hand: how much strong noise is taken off depends on the
biases."""
_EXPOSURES = (0.15, 0.3, 0.6)
"""Factors on the brightness of the pictures. Chosen by hand: pictures with strong noise are dark."""


@dataclass(frozen=True)
class Verdict:
    """The result of a trial.

    Attributes:
        options: the options of the network that the weights most likely belong to.
        error: its root mean squared error, grey values of [0, 255].
        others: the errors of the other networks.
    """

    options: Mapping[str, Any]
    error: float
    others: tuple[float, ...]


def likeliest(
    options: Mapping[str, Any], lookalikes: Sequence[Mapping[str, Any]], params: dict[str, Tensor]
) -> Verdict:
    """Find which of ``options`` and its ``lookalikes`` the weights ``params`` were trained for. All have their shapes.

    It is ``options``, unless another network takes off noise and has a clearly smaller error.
    """
    clean, noisy = _pictures(options.get("channels", 3))
    found = [_error(each, params, clean, noisy) for each in (options, *lookalikes)]
    best = min(range(len(found)), key=lambda number: found[number])
    if found[best] > _MAX_ERROR_RATIO * found[0] or found[best] > _rms(noisy - clean):
        best = 0
    others = tuple(error for number, error in enumerate(found) if number != best)
    return Verdict((options, *lookalikes)[best], found[best], others)


def _error(options: Mapping[str, Any], params: dict[str, Tensor], clean: Tensor, noisy: Tensor) -> float:
    with torch.random.fork_rng(devices=[]):  # the initial values that are drawn are overwritten
        net = build_arch(dict(options)).eval()
    net.load_state_dict(type(net).convert_state(params) or params)
    how: dict[str, Any] = {"k": 3} if isinstance(net, BlindSpotNetwork) else {}
    with torch.inference_mode():
        error = _rms(net.denoise(noisy, **how) - clean)
    return error if math.isfinite(error) else math.inf


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _pictures(channels: int) -> tuple[Tensor, Tensor]:
    """Make a clean picture of ramps and bars at three exposures, (3, C, 96, 96), and the same with correlated noise.

    Channels beyond the third repeat the first three.
    """
    ramp = torch.linspace(0, 1, _SIDE)
    down, across = torch.meshgrid(ramp, ramp, indexing="ij")
    clean = torch.stack((30 + 180 * down, 60 + 120 * across, 200 - 70 * (down + across)))
    clean[:, :, _SIDE // 2 :] += 30 * (torch.arange(_SIDE) // 8 % 2)[:, None]
    clean = clean[[channel % 3 for channel in range(channels)]] * torch.tensor(_EXPOSURES)[:, None, None, None]
    white = torch.randn(len(_EXPOSURES), channels, _SIDE + 1, _SIDE + 1, generator=torch.Generator().manual_seed(0))
    noise = _NOISE * 2 * F.avg_pool2d(white, 2, stride=1)  # neighbours are correlated by 1/2, as on SIDD
    return clean, (clean + noise).clamp(0, 255).round()
