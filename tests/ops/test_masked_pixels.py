from typing import Any

import pytest
import torch

from atbsn.ops.masked_pixels import draw_masked, draw_sources, mask_of, randomised_lines, replaced

X = torch.rand(3, 2, 50, 70, generator=torch.Generator().manual_seed(0))


def seed() -> None:
    torch.manual_seed(0)


def test_one_place_in_every_box() -> None:
    seed()
    counts = torch.zeros(50, 70)
    for _ in range(300):
        mask = mask_of(X, draw_masked(X, 10))
        assert mask.shape == (3, 1, 50, 70)
        assert (torch.nn.functional.avg_pool2d(mask.float(), 10) * 100 - 1).abs().max() < 1e-4  # one in each, anywhere
        counts += mask.sum(dim=(0, 1))
    assert counts.min() > 0 and counts.max() < 30  # 9 on average


def test_boxes_that_reach_beyond_the_picture_keep_its_share() -> None:
    seed()
    drawn = torch.stack([mask_of(X, draw_masked(X, 22)).float().mean() for _ in range(400)])
    assert drawn.mean().item() == pytest.approx(1 / 22**2, rel=0.05)


@pytest.mark.parametrize("centre", [True, False])
def test_sources_are_uniform_in_the_window(centre: bool) -> None:
    """Also at the border, where the window is cut."""
    seed()
    for row, column in [(20, 30), (0, 0), (49, 1)]:
        places = torch.full((3, 4000), row * 70 + column)
        sources = draw_sources(X, places, 2, centre)
        counts = torch.bincount(sources.flatten(), minlength=50 * 70).view(50, 70)
        window = torch.zeros(50, 70, dtype=torch.bool)
        window[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = True
        window[row, column] = centre
        assert not counts[~window].any()
        expected = 12000 / window.sum()
        assert ((counts[window] - expected).abs() < 6 * expected.sqrt()).all()


def test_all_channels_of_a_pixel_are_replaced_together() -> None:
    seed()
    places = draw_masked(X, 8)
    sources = draw_sources(X, places, 5, centre=False)
    given, mask = replaced(X, places, sources), mask_of(X, places)
    assert torch.equal(given.masked_fill(mask, 0), X.masked_fill(mask, 0))
    for picture, place, source in zip(range(3), places.tolist(), sources.tolist(), strict=True):
        for to, of in zip(place, source, strict=True):
            if to < 50 * 70:
                assert torch.equal(given[picture].flatten(1)[:, to], X[picture].flatten(1)[:, of])


@pytest.mark.parametrize("axis", ["across", "down"])
def test_lines(axis: Any) -> None:
    seed()
    mask = torch.zeros(3, 1, 50, 70, dtype=torch.bool)
    mask[:, :, 20, 30] = mask[:, :, 0, 69] = True
    given = randomised_lines(X, mask, axis, 5)
    changed = (given != X).all(dim=1)
    expected = torch.zeros(50, 70, dtype=torch.bool)
    if axis == "across":
        expected[20, 28:33] = expected[0, 67:] = True
    else:
        expected[18:23, 30] = expected[:3, 69] = True
    expected[20, 30] = expected[0, 69] = False
    assert torch.equal(changed, expected.expand(3, -1, -1))
    assert (given >= X.amin(dim=(2, 3), keepdim=True)).all() and (given <= X.amax(dim=(2, 3), keepdim=True)).all()


@pytest.mark.parametrize("axis", ["across", "down"])
def test_random_values_fill_the_range_of_their_picture_and_channel(axis: Any) -> None:
    seed()
    x = X + 10 * torch.arange(6).view(3, 2, 1, 1) + 10
    mask = torch.zeros(3, 1, 50, 70, dtype=torch.bool)
    mask[..., ::7, ::7] = True
    given = randomised_lines(x, mask, axis, 7)
    for picture in range(3):
        for channel in range(2):
            before, after = x[picture, channel], given[picture, channel]
            drawn = after[before != after]
            assert len(drawn) > 300 and drawn.min() >= before.min() and drawn.max() <= before.max()
            assert drawn.min() < before.min() + 0.03 and drawn.max() > before.max() - 0.03
            assert abs(drawn.mean() - before.mean()) < 0.06
