"""Where tiles lie: they cover, share enough, begin at multiples, and compute little twice."""

import math
import random
from itertools import pairwise
from typing import Any

import pytest

from atbsn.engine.inference.layout import FADE, context, fewest_pixels, spans
from atbsn.engine.inference.plan import BAND, ComputeOptions, DeviceFacts, DevicePlan

USUAL = 512
NETWORKS = {"student C": (32, 32), "photographs": (64, 8), "AP-BSN": (76, 1)}
"""Overlap, and multiple that tiles are padded to."""


def padded(side: int, multiple: int) -> int:
    return math.ceil(side / multiple) * multiple


@pytest.mark.parametrize("sizes", ["any", "fitted", "one"])
@pytest.mark.parametrize("seed", range(100))
def test_tiles_cover_and_share_enough(seed: int, sizes: Any) -> None:
    rng = random.Random(seed)
    overlap, multiple = rng.choice([0, 7, 32, 48, 76]), rng.choice([1, 8, 32])
    side = rng.randint(max(1, 2 * overlap), 2 * overlap + 300)
    length = rng.randint(1, 2000)
    found = spans(length, side, overlap, multiple, sizes)
    assert found[0][0] == 0 and found[-1][1] == length
    assert all(following - end <= -overlap for (_, end), (following, _) in pairwise(found))
    assert all(0 < end - start <= side for start, end in found)
    if len(found) > 1 and side >= 2 * overlap + 2 * multiple:
        begun = found[:-1] if sizes == "one" else found
        assert all(start % multiple == 0 for start, _ in begun)
    lengths = {end - start for start, end in found}
    assert len(lengths) == 1 or sizes == "any"
    assert sizes != "one" or lengths == {min(side, length)}
    assert len({end - start for start, end in found[:-1]}) <= 1, "but for the last one they have one size"


def test_they_are_evenly_spaced() -> None:
    assert spans(3000, 512, 32, 32) == [(start, start + 504) for start in (0, 416, 832, 1248, 1664, 2080, 2496)]
    assert spans(3000, 512, 32, 32, "any")[-1] == (2496, 3000)
    assert spans(3000, 512, 32, 32, "one")[-2:] == [(2080, 2592), (2488, 3000)]
    assert spans(100, 64, 24) == [(0, 64), (36, 100)]
    assert spans(64, 64, 24) == [(0, 64)]


@pytest.mark.parametrize(("overlap", "found"), [(0, 0), (12, 3), (32, 8), (48, 16), (128, 56)])
def test_context(overlap: int, found: int) -> None:
    assert context(overlap) == found
    assert overlap - 2 * found <= max(FADE, overlap / 2 + 1)


def before(size: tuple[int, int], overlap: int, multiple: int) -> int:
    """Pixels that tiles of 512 compute, each an overlap before the last one ends, and the last one shifted inwards."""
    sides = []
    for length in size:
        count = 1 if length <= USUAL else 1 + math.ceil((length - USUAL) / (USUAL - overlap))
        sides.append(count * padded(min(length, USUAL), multiple))
    return math.prod(sides)


def now(size: tuple[int, int], overlap: int, multiple: int) -> int:
    plan = DevicePlan.make(
        DeviceFacts("cpu"), ComputeOptions(overlap=overlap, usual_tile=USUAL), size, 1.0, multiple=multiple
    )
    rows, columns = plan.tiler().rows(size[0]), plan.tiler().columns(size[1])
    tallest, widest = (max(end - start for start, end in each) for each in (rows, columns))
    assert tallest * widest <= USUAL**2, "no more memory than before"
    assert tallest <= USUAL or tallest * size[1] <= BAND
    return math.prod(sum(padded(end - start, multiple) for start, end in each) for each in (rows, columns))


@pytest.mark.parametrize(
    ("size", "most"),
    [
        ((704, 928), (1.10, 1.14, 1.17)),
        ((480, 640), (1.07, 1.10, 1.12)),
        ((513, 513), (1.20, 1.17, 1.19)),
        ((1080, 1920), (1.13, 1.25, 1.28)),
        ((3000, 4000), (1.19, 1.30, 1.33)),
        ((8700, 11600), (1.18, 1.30, 1.37)),
    ],
)
def test_how_much_is_computed_for_a_picture(size: tuple[int, int], most: tuple[float, float, float]) -> None:
    """Of its pixels; 1.6 of them at 704 x 928, and 1.38 to 1.75 at 12 megapixels, in the tiles of before."""
    for (overlap, multiple), share in zip(NETWORKS.values(), most, strict=True):
        assert now(size, overlap, multiple) <= share * math.prod(size)


@pytest.mark.parametrize(("name", "overlap_before"), [("student C", 32), ("photographs", 64), ("AP-BSN", 120)])
def test_no_picture_costs_more_than_before(name: str, overlap_before: int) -> None:
    """But for a few, whose neighbouring tiles now share their excess evenly."""
    overlap, multiple = NETWORKS[name]
    rng, ratios = random.Random(0), []
    for _ in range(150):
        size = rng.randint(64, 3000), rng.randint(64, 3000)
        ratios.append(now(size, overlap, multiple) / before(size, overlap_before, multiple))
    assert max(ratios) < 1.05
    assert sorted(ratios)[len(ratios) // 2] < 0.9


@pytest.mark.parametrize("sizes", ["any", "fitted", "one"])
def test_what_fits_is_done_in_one_pass(sizes: Any) -> None:
    assert fewest_pixels((500, 500), 32, 32, 500**2, sizes=sizes) is None
    assert fewest_pixels((500, 501), 32, 32, 500**2, sizes=sizes) is not None


@pytest.mark.parametrize("overlap", [16, 32, 48])
@pytest.mark.parametrize("side", [5, 31, 40])
def test_tiles_of_narrow_pictures_are_two_overlaps_wide(side: int, overlap: int) -> None:
    """At least, although the picture is not."""
    for size in ((2000, side), (side, 2000)):
        found = fewest_pixels(size, overlap, 1, 100 * side)
        assert found is not None
        assert found[size.index(side)] == max(side, 2 * overlap) and found[size.index(2000)] >= 2 * overlap


def test_tiles_have_64_pixels_at_least() -> None:
    assert fewest_pixels((640, 640), 0, 1, 64**2) == (64, 64)
    assert fewest_pixels((640, 640), 0, 1, 32**2) == (64, 64), "however little fits"
