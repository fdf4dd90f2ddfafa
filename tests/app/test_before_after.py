"""The summary of a picture that is compared before and after."""

from itertools import pairwise

import numpy as np
import pytest

from atbsn.app.before_after import Look


@pytest.mark.parametrize(
    ("shape", "kind", "rows", "columns"),
    [
        ((200, 333, 3), np.uint8, [0, 64, 128, 200], [0, 64, 128, 192, 256, 333]),
        ((159, 95, 3), np.uint16, [0, 64, 159], [0, 95]),
        ((30, 160, 4), np.float32, [0, 30], [0, 64, 160]),
    ],
)
def test_squares_have_their_means_deviations_and_clipped_shares(
    shape: tuple[int, int, int], kind: type[np.generic], rows: list[int], columns: list[int]
) -> None:
    values = np.random.default_rng(0).normal(60, 70, shape).clip(0, 255)
    picture = (values * (257 if kind is np.uint16 else 1)).astype(kind)
    look = Look.at(picture)
    seen = picture / (257 if kind is np.uint16 else 1)
    squares = [
        seen[top:bottom, left:right].reshape(-1, shape[2])
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]
    np.testing.assert_allclose(look.mean, [square.mean(axis=0) for square in squares], atol=1e-3)
    np.testing.assert_allclose(look.deviation, [square.std(axis=0) for square in squares], atol=5e-3)
    ends = [((square <= 0) | (square >= 255)).mean(axis=0) for square in squares]
    np.testing.assert_allclose(look.clipped, ends, atol=1e-6)
    assert look.clipped.max() > 0.1


def test_the_deviation_of_a_flat_picture_is_zero() -> None:
    assert Look.at(np.full((130, 130, 3), 201, np.uint8)).deviation.max() == 0
