"""Pictures side by side under captions."""

import numpy as np
import pytest

from atbsn.engine.evaluation.panels import panel, stacked


def plain(value: float, height: int = 40, width: int = 60, channels: int = 3) -> np.ndarray:
    return np.full((height, width, channels), value, np.uint8)


def test_pictures_lie_in_rows_each_under_its_caption() -> None:
    made = panel({"one": plain(10), "two": plain(20), "three": plain(30)}, columns=2)
    assert made.shape == (2 * (26 + 40 + 8), 2 * (60 + 8) + 8, 3)
    for value, top, left in ((10, 26, 8), (20, 26, 76), (30, 100, 8)):
        assert (made[top : top + 40, left : left + 60] == value).all()
        assert (made[top - 26 : top, left : left + 60] > 100).any()  # the caption
    assert (made[74:, 76:] == 32).all()  # no fourth picture
    assert panel({"one": plain(10)}, columns=4).shape == (74, 76, 3)


def test_the_middle_is_shown() -> None:
    picture = plain(0)
    picture[10:30, 20:40] = 255
    assert (panel({"": picture}, side=20)[26:46, 8:28] == 255).all()
    assert panel({"": picture}, side=None).shape == panel({"": picture}, side=512).shape


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_are_shown_as_their_mean(channels: int) -> None:
    picture = plain(100, channels=channels)
    picture[..., 0] = 107
    assert (panel({"": picture})[26:66, 8:68] == round(100 + 7 / channels)).all()


def test_a_long_caption_is_written_smaller() -> None:
    caption = "a denoiser with a name that says all of its settings"
    bar = panel({caption: plain(0, width=200)})[:26, 8:208]
    assert (bar[:, 150:199] > 60).any() and (bar[:, 199:] == 32).all()  # all of it, and nothing is cut


def test_pictures_below_one_another_share_a_caption() -> None:
    column = stacked([plain(10), plain(20, height=30)])
    assert column.shape == (40 + 8 + 30, 60, 3)
    assert (column[:40] == 10).all() and (column[40:48] == 32).all() and (column[48:] == 20).all()
