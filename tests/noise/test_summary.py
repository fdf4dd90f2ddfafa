"""A noise model in one line and as a figure: every number is the model's own."""

import sys
from typing import Any

import pytest
import torch

from atbsn.noise.model import NoiseModel
from atbsn.noise.sampling import REACH
from atbsn.noise.summary import describe_noise, plot
from atbsn.utils.errors import UserError


def model(channels: int) -> NoiseModel:
    """Channel c has level c + 1 in the dark and 17 more at white, and every lag a correlation of its own."""
    made = NoiseModel(channels)
    made.levels.copy_(torch.linspace(0, 17, 17) + torch.arange(1.0, channels + 1)[:, None])
    count = 2 * REACH + 1
    made.correlation.copy_(torch.arange(channels * channels * count * count).view(made.correlation.shape) / 1000)
    made.kurtosis.fill_(4.26)
    made.spread.fill_(0.127)
    return made


def test_one_line_has_all_channels_in_order() -> None:
    """17/255 a grey value: 1.07 at 16, 8.53 at 128, 16.0 at 240. Pairs: (0, 1), (0, 2), (1, 2), their centres."""
    made = model(3)
    across, down = (
        sum(float(made.correlation[(channel, channel, *place)]) for channel in range(3)) / 3
        for place in ((4, 5), (5, 4))
    )
    between = sum(float(made.correlation[first, second, 4, 4]) for first, second in ((0, 1), (0, 2), (1, 2))) / 3
    assert describe_noise(made) == (
        "level at 16: 2.1/3.1/4.1, 128: 9.5/10.5/11.5, 240: 17.0/18.0/19.0; "
        f"lag-1 correlation {across:.2f} across, {down:.2f} down; between colours {between:.2f}; "
        "kurtosis 4.3; spread 0.13"
    )


def test_one_channel_has_no_colours() -> None:
    assert describe_noise(model(1)) == (
        "level at 16: 2.1, 128: 9.5, 240: 17.0; lag-1 correlation 0.04 across, 0.05 down; kurtosis 4.3; spread 0.13"
    )


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_figure_has_a_curve_before_and_after_clipping_and_a_map_for_every_pair(channels: int) -> None:
    pytest.importorskip("matplotlib")
    made = model(channels)
    figure: Any = plot(made)
    left, right = figure.subfigs
    (axes,) = left.axes
    names = ["R", "G", "B"] if channels == 3 else [str(number) for number in range(channels)]
    after, before = axes.lines[::2], axes.lines[1::2]
    assert [line.get_label() for line in after] == names == [text.get_text() for text in axes.get_legend().texts]
    for channel in range(channels):
        grey = torch.arange(256.0).expand(1, channels, 1, -1)
        for line, clipped, style in ((after[channel], True, "-"), (before[channel], False, ":")):
            assert list(line.get_xdata()) == list(range(256))
            assert list(line.get_ydata()) == pytest.approx(made.level(grey, clipped)[0, channel, 0].tolist())
            assert line.get_linestyle() == style and line.get_color() == after[channel].get_color()
    assert len({line.get_color() for line in after}) == channels
    assert axes.get_xlim() == (0, 255) and axes.get_ylim()[0] == 0
    *cells, bar = right.axes
    assert len(cells) == channels**2 and bar.get_ylim() == (-1, 1)
    for place, cell in enumerate(cells):
        first, second = divmod(place, channels)
        (image,) = cell.images
        assert torch.equal(torch.tensor(image.get_array().tolist()), made.correlation[first, second])
        assert image.get_clim() == (-1, 1) and image.get_extent() == [-4.5, 4.5, 4.5, -4.5]
        assert cell.get_title() == f"{names[first]}, {names[second]}"
        # Lags are written along the left and the lower edge of the whole, where they do not repeat.
        assert list(cell.get_xticks()) == ([-4, 0, 4] if first == channels - 1 else [])
        assert list(cell.get_yticks()) == ([-4, 0, 4] if second == 0 else [])


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match="needs matplotlib; pip install matplotlib"):
        plot(model(1))
