"""The drawn patterns, as they were when the shipped weights learned: a change of what is drawn is noticed."""

import pytest
import torch

from atbsn.noise.patterns import regular_pattern

_MEANS = (
    (99.8, 100.7, 99.8),
    (141.9, 125.9, 119.6),
    (129.4, 128.7, 121.3),
    (91.0, 90.8, 90.9),
    (88.9, 96.5, 91.9),
    (196.6, 132.9, 120.4),
    (129.7, 138.9, 90.7),
    (132.6, 73.2, 124.7),
    (77.8, 65.5, 65.4),
    (177.1, 173.6, 178.8),
    (100.5, 81.4, 82.4),
    (91.0, 87.6, 157.1),
    (55.9, 81.7, 49.6),
    (129.5, 144.0, 142.1),
    (147.2, 144.8, 155.8),
    (132.4, 143.7, 173.4),
    (120.5, 122.6, 120.2),
    (96.3, 93.2, 95.9),
    (138.0, 68.1, 109.1),
    (79.0, 55.8, 167.8),
    (118.3, 115.8, 114.5),
    (90.4, 90.3, 90.1),
    (122.6, 99.4, 87.9),
    (79.3, 205.0, 206.6),
)
"""R, G, B of 24 pictures of 40 x 56 with patterns over flat 90, seed 0."""
_DEVIATIONS = (
    33.0,
    23.4,
    23.7,
    10.1,
    8.5,
    46.8,
    29.7,
    41.1,
    28.1,
    46.2,
    18.3,
    38.0,
    30.7,
    37.0,
    68.9,
    40.3,
    46.2,
    15.0,
    36.0,
    55.3,
    16.6,
    5.5,
    36.2,
    62.5,
)
"""Standard deviations of the same pictures, over pixels and channels."""


def test_patterns_are_drawn_as_before() -> None:
    torch.manual_seed(0)
    made = regular_pattern(torch.full((24, 3, 40, 56), 90.0))
    means, deviations = made.mean(dim=(2, 3)), made.std(dim=(1, 2, 3))
    assert [tuple(row) for row in means.tolist()] == [pytest.approx(row, abs=0.3) for row in _MEANS]
    assert deviations.tolist() == pytest.approx(_DEVIATIONS, abs=0.3)
