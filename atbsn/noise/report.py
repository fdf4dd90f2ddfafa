"""A noise model in one line, and as a picture."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from atbsn.noise.model import NoiseModel
from atbsn.noise.sampling import REACH
from atbsn.utils.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = (16.0, 128.0, 240.0)
_COLOURS = {"R": "tab:red", "G": "tab:green", "B": "tab:blue"}


def describe(model: NoiseModel) -> str:
    """One line: levels in the dark, the middle and the bright for R, G, B, correlations, kurtosis and spread."""
    levels = model.level(torch.tensor(_SHOWN).expand(1, 3, 1, -1))[0, :, 0].tolist()
    shown = ", ".join(
        f"{intensity:.0f}: " + "/".join(f"{channel[index]:.1f}" for channel in levels)
        for index, intensity in enumerate(_SHOWN)
    )
    own = model.correlation.diagonal()
    across, down = (own[index].mean() for index in ((REACH, REACH + 1), (REACH + 1, REACH)))
    colours = model.correlation[[0, 0, 1], [1, 2, 2], REACH, REACH].mean()
    return (
        f"level at {shown}; lag-1 correlation {across:.2f} across, {down:.2f} down; between colours {colours:.2f}; "
        f"kurtosis {float(model.kurtosis):.1f}; spread {float(model.spread):.2f}"
    )


def picture(model: NoiseModel) -> "Figure":
    """The levels, seen and before clipping, and the correlation of every two channels over the lags.

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
    columns = figure.add_gridspec(1, 2, width_ratios=(1.1, 1))
    left, right = (figure.add_subfigure(columns[0, column]) for column in range(2))
    axes = left.subplots()
    intensities = torch.arange(256.0)
    for channel, (name, colour) in enumerate(_COLOURS.items()):
        curves = (
            model.level(intensities.expand(1, 3, 1, -1), clipped)[0, channel, 0].tolist() for clipped in (True, False)
        )
        axes.plot(range(256), next(curves), color=colour, label=name)
        axes.plot(range(256), next(curves), color=colour, linestyle=":", linewidth=1)
    axes.set(xlabel="intensity", ylabel="standard deviation", xlim=(0, 255), title="level (dotted: before clipping)")
    axes.set_ylim(bottom=0)
    axes.legend()
    grid = right.subplots(3, 3)
    right.suptitle("correlation")
    for first, second in np.ndindex(3, 3):
        cell = grid[first, second]
        image = cell.imshow(
            model.correlation[first, second].tolist(), cmap="RdBu_r", vmin=-1, vmax=1, extent=(-4.5, 4.5, 4.5, -4.5)
        )
        cell.set_xticks([-4, 0, 4] if first == 2 else [])
        cell.set_yticks([-4, 0, 4] if second == 0 else [])
        cell.set_title("RGB"[first] + "RGB"[second], fontsize=8)
    right.colorbar(image, ax=grid)
    return figure
