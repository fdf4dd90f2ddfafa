from pathlib import Path

import torch
from helpers import golden

from atbsn.ops.adjacent import PAIRS, draw_pairs, replace_adjacent


def test_meets_the_authors_replacer(assets: Path) -> None:
    expected = golden.read_double(assets, "aprrd")
    table = [[(column, row) for row, column in pair] for pair in PAIRS]
    assert torch.equal(torch.tensor(table), expected["pair_table"].long())
    for picture, name in ((expected["x"], "y"), (expected["fy"], "fy")):
        first, second = replace_adjacent(picture, expected["pair_index"])
        assert torch.equal(first, expected[f"h1_{name}"])
        assert torch.equal(second, expected[f"h2_{name}"])


def test_the_72_pairs_of_different_places() -> None:
    assert len(PAIRS) == len(set(PAIRS)) == 72
    assert all(first != second for first, second in PAIRS)
    assert {place for pair in PAIRS for place in pair} == {(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)}


def test_pairs_are_drawn_alike() -> None:
    torch.manual_seed(0)
    counts = draw_pairs(torch.zeros(2, 3, 200, 200)).flatten().bincount(minlength=72)
    assert len(counts) == 72
    assert (counts / counts.sum() * 72 - 1).abs().max() < 0.2


def test_the_two_pictures_differ_inside() -> None:
    x = torch.arange(2 * 12 * 12.0).view(2, 1, 12, 12).expand(-1, 3, -1, -1)
    first, second = replace_adjacent(x, draw_pairs(x))
    assert (first != second)[:, :, 1:-1, 1:-1].all()
    for replaced in (first, second):
        assert torch.equal(replaced[:, 0], replaced[:, 2])
        assert ((replaced - x).abs() <= 13).all()
