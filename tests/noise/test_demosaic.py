"""The three methods of demosaicing against their published rules, written pixel by pixel."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch

from atbsn.noise.demosaic import bayer_pattern, demosaic_bilinear, demosaic_edges, demosaic_malvar

SIDE = 10
NAMES = ("RGGB", "GRBG", "GBRG", "BGGR")
Weights = dict[tuple[int, int], float]

CROSS: Weights = {(-1, 0): 1 / 4, (1, 0): 1 / 4, (0, -1): 1 / 4, (0, 1): 1 / 4}
DIAGONAL: Weights = {(-1, -1): 1 / 4, (-1, 1): 1 / 4, (1, -1): 1 / 4, (1, 1): 1 / 4}
BESIDE: Weights = {(0, -1): 1 / 2, (0, 1): 1 / 2}
"""Means of the nearest pixels of a colour."""

MALVAR_GREEN = {
    (0, 0): 4 / 8,
    **{(down, along): 2 / 8 for down, along in CROSS},
    **{(2 * down, 2 * along): -1 / 8 for down, along in CROSS},
}
MALVAR_OPPOSITE = {
    (0, 0): 6 / 8,
    **{place: 2 / 8 for place in DIAGONAL},
    **{(2 * down, 2 * along): -1.5 / 8 for down, along in CROSS},
}
MALVAR_BESIDE = {
    (0, 0): 5 / 8,
    **{place: 4 / 8 for place in BESIDE},
    **{place: -1 / 8 for place in DIAGONAL},
    **{place: -1 / 8 for place in ((0, -2), (0, 2))},
    **{place: 0.5 / 8 for place in ((-2, 0), (2, 0))},
}
"""Figure 2 of Malvar et al. (ICASSP 2004): green at red or blue; red at blue and blue at red; a colour at a green pixel
that has it to the left and right."""


def turned(weights: Weights) -> Weights:
    return {(along, down): weight for (down, along), weight in weights.items()}


def at(values: np.ndarray, row: int, column: int, weights: Weights) -> float:
    """The weighted sum around a pixel; the picture is mirrored at its outermost pixels."""
    last = SIDE - 1
    mirrored = lambda place: last - abs(last - abs(place))  # noqa: E731
    return sum(
        weight * values[mirrored(row + down), mirrored(column + along)] for (down, along), weight in weights.items()
    )


def colour_at(name: str, row: int, column: int) -> int:
    return "RGB".index(name[2 * (row % 2) + column % 2])


def bilinear(raw: np.ndarray, name: str) -> np.ndarray:
    return interpolated(raw, name, CROSS, DIAGONAL, BESIDE)


def malvar(raw: np.ndarray, name: str) -> np.ndarray:
    return interpolated(raw, name, MALVAR_GREEN, MALVAR_OPPOSITE, MALVAR_BESIDE)


def interpolated(raw: np.ndarray, name: str, green: Weights, opposite: Weights, beside: Weights) -> np.ndarray:
    """Weighted sums: of green at red and blue, of red at blue and the reverse, and of red and blue at green, where the
    colour is beside the pixel."""
    result = np.empty((3, SIDE, SIDE))
    for row, column, colour in product(range(SIDE), range(SIDE), range(3)):
        own = colour_at(name, row, column)
        if own == colour:
            weights: Weights = {(0, 0): 1.0}
        elif own != 1:
            weights = green if colour == 1 else opposite
        else:
            weights = beside if colour_at(name, row, column + 1) == colour else turned(beside)
        result[colour, row, column] = at(raw, row, column, weights)
    return result


def edges(raw: np.ndarray, name: str) -> np.ndarray:
    """Green: the mean of the four beside, plus half of what the pixel exceeds its own colour's mean two pixels away.
    Red and blue: green plus the interpolated difference."""
    green = np.empty((SIDE, SIDE))
    far = {(2 * down, 2 * along): weight for (down, along), weight in CROSS.items()}
    for row, column in product(range(SIDE), range(SIDE)):
        own = raw[row, column]
        if colour_at(name, row, column) == 1:
            green[row, column] = own
        else:
            green[row, column] = at(raw, row, column, CROSS) + (own - at(raw, row, column, far)) / 2
    difference = bilinear(raw - green, name)
    return np.stack([green + difference[0], green, green + difference[2]])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("ours", "plain"), [(demosaic_bilinear, bilinear), (demosaic_edges, edges), (demosaic_malvar, malvar)]
)
def test_every_pixel_is_as_the_rule_says(
    ours: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    plain: Callable[[np.ndarray, str], np.ndarray],
    name: str,
) -> None:
    """Two pictures at once, of which the second has another mosaic."""
    raw = np.random.default_rng(0).normal(size=(2, SIDE, SIDE))
    other = NAMES[NAMES.index(name) - 1]
    bayer = bayer_pattern(torch.tensor([NAMES.index(each) for each in (name, other)]), SIDE, SIDE)
    found = ours(torch.from_numpy(raw)[:, None].float(), bayer).numpy()
    assert np.abs(found - np.stack([plain(raw[0], name), plain(raw[1], other)])).max() < 1e-5


def test_a_mosaic_need_not_be_square() -> None:
    bayer = bayer_pattern(torch.tensor([1]), 4, 6)
    rows = ["".join("RGB"[int(colour)] for colour in row) for row in bayer[0].argmax(dim=0)]
    assert rows == ["GRGRGR", "BGBGBG", "GRGRGR", "BGBGBG"] and bayer.dtype == torch.float32
    assert bayer.sum(dim=1).eq(1).all()
