"""A noise model described in one line, and as a plot."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from atbsn.noise.model import NoiseModel
from atbsn.noise.sampling import REACH
from atbsn.utils.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = (16.0, 128.0, 240.0)
"""Grey values at which ``describe_noise`` gives the level: dark, middle and bright."""
_COLOURS = {"R": "tab:red", "G": "tab:green", "B": "tab:blue"}
"""Matplotlib's colours for the channels of RGB."""


def describe_noise(model: NoiseModel) -> str:
    """Describe ``model`` in one line: levels of the channels at three intensities, correlations, kurtosis, spread."""
    levels = _levels(model, torch.tensor(_SHOWN))
    shown = ", ".join(
        f"{intensity:.0f}: " + "/".join(f"{channel[index]:.1f}" for channel in levels)
        for index, intensity in enumerate(_SHOWN)
    )
    own = model.correlation.diagonal()
    across, down = (own[index].mean() for index in ((REACH, REACH + 1), (REACH + 1, REACH)))
    first, second = torch.triu_indices(model.channels, model.channels, offset=1)
    colours = f"between colours {model.correlation[first, second, REACH, REACH].mean():.2f}; " if len(first) else ""
    return (
        f"level at {shown}; lag-1 correlation {across:.2f} across, {down:.2f} down; {colours}"
        f"kurtosis {float(model.kurtosis):.1f}; spread {float(model.spread):.2f}"
    )


def plot(model: NoiseModel) -> "Figure":
    """Plot the levels, after and before clipping, and the correlation of every two channels over the lags.

    Returns:
        A matplotlib figure; ``figure.savefig("noise.png")`` writes it.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("the picture of a noise model needs matplotlib; pip install matplotlib") from None
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.1, 1))[0]
    axes = left.subplots()
    colours = _COLOURS if model.channels == 3 else {str(number): f"C{number}" for number in range(model.channels)}
    after, before = (_levels(model, torch.arange(256.0), clipped) for clipped in (True, False))
    for channel, (name, colour) in enumerate(colours.items()):
        axes.plot(after[channel], color=colour, label=name)
        axes.plot(before[channel], color=colour, linestyle=":", linewidth=1)
    axes.set(xlabel="intensity", ylabel="standard deviation", xlim=(0, 255), title="level (dotted: before clipping)")
    axes.set_ylim(bottom=0)
    axes.legend()
    grid = right.subplots(model.channels, model.channels, squeeze=False)
    right.suptitle("correlation")
    names, last = list(colours), model.channels - 1
    for first, second in np.ndindex(model.channels, model.channels):
        cell: Any = grid[first, second]
        image = cell.imshow(
            model.correlation[first, second].tolist(), cmap="RdBu_r", vmin=-1, vmax=1, extent=(-4.5, 4.5, 4.5, -4.5)
        )
        cell.set_xticks([-4, 0, 4] if first == last else [])
        cell.set_yticks([-4, 0, 4] if second == 0 else [])
        cell.set_title(f"{names[first]}, {names[second]}", fontsize=8)
    right.colorbar(image, ax=grid)
    return figure


def _levels(model: NoiseModel, intensities: Tensor, clipped: bool = True) -> list[list[float]]:
    """The level of each channel at each of ``intensities`` (N,)."""
    at = intensities.expand(model.channels, 1, -1)
    return model.level(at[None], clipped).view(model.channels, -1).tolist()
