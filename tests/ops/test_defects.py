"""Hot pixels and banding on pictures of which the truth is known."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from atbsn.ops import defects
from atbsn.ops.defects import remove_banding, replace_hot_pixels, row_offsets

HEIGHT, WIDTH = 160, 416


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scene() -> torch.Tensor:
    """A ramp with slow waves, an edge that is not along the rows, and texture in a corner."""
    across, down = torch.arange(WIDTH), torch.arange(HEIGHT)[:, None]
    grey = 60 + 0.2 * across + 20 * torch.sin((down + across) / 40) + 40 * (across + 0.7 * down > 260)
    texture = F.avg_pool2d(60 * draws(1, 1, HEIGHT + 2, WIDTH + 2, seed=9), 3, 1)[0, 0] * (across < 90) * (down < 60)
    return torch.stack([grey + texture, 0.8 * grey, 180 - 0.5 * grey])[None]


@pytest.mark.parametrize("sigma", [0.0, 3.0, 8.0])
@pytest.mark.parametrize("height", [90.0, -90.0])
def test_hot_and_dead_pixels_become_what_is_around(sigma: float, height: float) -> None:
    clean = scene()
    picture = clean + sigma * draws(*clean.shape)
    places = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    places[8:-8:16, WIDTH // 2 + 8 : -8 : 16] = True
    picture[0, 1, places] += height
    result = replace_hot_pixels(picture)
    off = (result - clean)[0, 1, places].abs()
    assert (off > 3 * sigma + 12).float().mean() < 0.03  # on the edge they are not that far off
    assert (result != picture)[0, 1, ~places].float().mean() < 1e-3
    assert (result != picture)[0, [0, 2]].float().mean() < 2e-4


def test_what_demosaicing_made_of_a_hot_pixel_goes_with_it() -> None:
    clean = torch.full((1, 3, 40, 40), 100.0)
    picture = clean + 2 * draws(1, 3, 40, 40)
    smeared = torch.tensor([[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]])
    picture[0, 0, 19:22, 19:22] += 120 * smeared
    result = replace_hot_pixels(picture)
    assert (result - clean)[0, 0, 19:22, 19:22].abs().max() < 8


def test_wires_corners_and_wider_dots_stay() -> None:
    picture = torch.full((1, 3, 40, 60), 50.0)
    picture[..., 10, :] = 200
    picture[..., 20:30, 20:30] = 180
    picture[..., 34:36, 38:42] = 220
    assert torch.equal(replace_hot_pixels(picture), picture)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (1, 3, 3, 200), (2, 1, 4, 5)])
def test_small_pictures_for_hot_pixels(shape: tuple[int, int, int, int]) -> None:
    picture = 128 + draws(*shape)
    assert torch.equal(replace_hot_pixels(picture), picture)


@pytest.mark.parametrize("sigma", [0.0, 6.0])
def test_offsets_of_rows_and_columns_are_found(sigma: float) -> None:
    """Of 3 grey values less than 1 stays: what is slower than 33 rows, and what chance hides."""
    tall = torch.cat([scene()] * 3, dim=-2)
    tall = tall + sigma * draws(*tall.shape)
    rows, columns = 3 * draws(1, 3, tall.shape[-2], 1, seed=1), 3 * draws(1, 3, 1, WIDTH, seed=2)
    for offsets in (rows, columns, rows + columns):
        left = remove_banding(tall + offsets) - tall
        assert left.mean(dim=-1).std() < 1 and left.mean(dim=-2).std() < 1


@pytest.mark.parametrize("sigma", [0.0, 2.0, 15.0])
def test_pictures_without_banding_stay_nearly_what_they_are(sigma: float) -> None:
    picture = scene() + sigma * draws(1, 3, HEIGHT, WIDTH)
    assert (remove_banding(picture) - picture).square().mean().sqrt() < 0.05 + 0.04 * sigma


def test_an_edge_and_a_line_from_end_to_end_are_the_scenes() -> None:
    picture = 80 + 3 * draws(1, 3, HEIGHT, WIDTH)
    lines = torch.zeros(1, 1, HEIGHT, 1)
    lines[:, :, 70:] = 60
    lines[:, :, 30:32] = 25
    changed = remove_banding(picture + lines) - picture - lines
    assert changed.mean(dim=-1).abs().max() < 1.5


@pytest.mark.parametrize("shape", [(1, 3, 20, 20), (1, 3, 500, 383), (1, 3, 32, 2000)])
def test_small_pictures_for_banding(shape: tuple[int, int, int, int]) -> None:
    picture = 128 + draws(*shape[:3], 1) + draws(*shape)
    assert torch.equal(row_offsets(picture), torch.zeros(shape[:3]))


def lower_median(values: np.ndarray, axis: int) -> np.ndarray:
    """As ``torch.median``: the lower of the two in the middle."""
    return np.take(np.sort(values, axis), (values.shape[axis] - 1) // 2, axis)


def plain_offsets(plane: np.ndarray) -> np.ndarray:
    """The offsets of the rows of (H, W), by the rule of ``remove_banding``: 12 segments, windows of 33 rows."""
    length = plane.shape[1] // 12
    segments = lower_median(plane[:, : 12 * length].reshape(len(plane), 12, length), 2)
    around = np.pad(segments, ((16, 16), (0, 0)), mode="reflect")
    estimates = segments - np.stack([lower_median(around[row : row + 33], 0) for row in range(len(plane))])
    offsets = lower_median(estimates, 1)
    deviation = 1.4826 * lower_median(np.abs(estimates - offsets[:, None]), 1)
    by_chance = np.pi / 24 * np.square(deviation).mean()
    variance = (1.4826 * lower_median(np.abs(offsets), 0)) ** 2
    return max(0.0, 1 - by_chance / max(variance, 1e-6)) * offsets * (np.abs(offsets) <= 4 * variance**0.5)


@pytest.mark.parametrize("shape", [(33, 384), (70, 431)])
def test_offsets_are_what_the_rule_says(shape: tuple[int, int]) -> None:
    """Strong and weak ones, and one beyond four deviations, of two channels."""
    rows = 3 * draws(2, shape[0], 1, seed=1) * torch.tensor([1.0, 0.2]).view(2, 1, 1)
    rows[:, 11] = 30
    planes = 100 + rows + 4 * draws(2, *shape)
    found = row_offsets(planes[None])[0]
    for channel in range(2):
        expected = torch.from_numpy(plain_offsets(planes[channel].numpy())).float()
        torch.testing.assert_close(found[channel], expected, atol=1e-4, rtol=1e-4)
    assert found[0].abs().max() > 1 and found[0, 11] == 0


@pytest.mark.parametrize(("height", "is_defect"), [(11.5, False), (12.5, True)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_defect_stands_out_by_twelve_grey_values(height: float, is_defect: bool, sign: int) -> None:
    picture = torch.full((1, 1, 20, 20), 100.0)
    picture[..., 9, 12] += sign * height
    assert bool((replace_hot_pixels(picture) == 100).all()) == is_defect


@pytest.mark.parametrize(("height", "is_defect"), [(75.0, False), (85.0, True)])
def test_a_defect_is_twice_as_high_as_others_near_by(height: float, is_defect: bool) -> None:
    """As the second of them, three pixels away; a third that is four away does not matter."""
    picture = torch.full((1, 1, 30, 30), 100.0)
    picture[..., 15, 15] += height
    picture[..., 12, 12] += 60
    picture[..., 18, 15] += 40
    picture[..., 15, 19] += 60
    assert (replace_hot_pixels(picture)[0, 0, 15, 15] == 100) == is_defect


@pytest.mark.parametrize(("deviations", "is_defect"), [(5.0, False), (7.0, True)])
def test_a_defect_is_six_deviations_from_what_is_around(deviations: float, is_defect: bool) -> None:
    """On a chessboard of 96 and 104: from pixel to pixel 8, which is 1.48 / sqrt(2) as much as a deviation."""
    down, along = torch.meshgrid(torch.arange(21), torch.arange(21), indexing="ij")
    picture = (96.0 + 8 * ((down + along) % 2))[None, None]
    picture[..., 10, 10] = 96 + deviations * 8 * 1.4826 / 2**0.5
    found = replace_hot_pixels(picture)[0, 0, 10, 10]
    assert (found != picture[0, 0, 10, 10]) == is_defect


def test_a_defect_at_the_border_has_no_neighbours_beyond_it() -> None:
    """Lines at the opposite border are not taken for parts of it."""
    for transposed in (False, True):
        picture = torch.full((1, 1, 24, 40), 50.0)
        picture[..., -1] = 120
        picture[0, 0, 9, 0] = 200
        expected = picture.clone()
        expected[0, 0, 9, 0] = 50
        found = replace_hot_pixels(picture.mT.contiguous()).mT if transposed else replace_hot_pixels(picture)
        assert torch.equal(found, expected)


def plain_repair(plane: np.ndarray, every: int) -> np.ndarray:
    """The rule of ``replace_hot_pixels`` for (H, W), one pixel after the other; steps are of every so many pixels."""
    padded, result = np.pad(plane, 3, mode="reflect"), plane.copy()
    in_ring = np.ones((7, 7), bool)
    in_ring[2:5, 2:5] = False
    usual = 1.4826 / 2**0.5 * lower_median(np.abs(np.diff(plane, axis=1)).ravel()[::every], 0)
    for row, column in np.ndindex(plane.shape):
        around, value = padded[row : row + 7, column : column + 7], plane[row, column]
        spot, ring = around[2:5, 2:5], around[in_ring]
        if value not in (spot.min(), spot.max()) or abs(value - spot.mean()) <= 6:
            continue
        median = lower_median(ring, 0)
        spread = max(1.4826 * lower_median(np.abs(ring - median), 0), usual)
        side = np.sign(value - median)
        second = np.sort((ring - median) * side)[-2]
        if abs(value - median) <= max(6 * spread, 2 * second, 12):
            continue
        for down, right in np.ndindex(3, 3):
            to = row + down - 1, column + right - 1
            inside = 0 <= to[0] < plane.shape[0] and 0 <= to[1] < plane.shape[1]
            if inside and (plane[to] - median) * side > 3 * spread:
                result[to] = median
    return result


@pytest.mark.parametrize("shape", [(4, 40), (40, 4), (26, 31)])
@pytest.mark.parametrize("most_steps", [2**20, 300, 130])
def test_defects_are_what_the_rule_says(
    shape: tuple[int, int], most_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many heights, on both sides, with smears, everywhere and at the borders, in noise that grows to the right."""
    monkeypatch.setattr(defects, "_MAX_STEPS", most_steps)
    chance = torch.rand(6, *shape, generator=torch.Generator().manual_seed(3))
    planes = 100 + (1.5 + torch.linspace(0, 3, shape[1])) * draws(6, *shape, seed=4)
    spikes = 40 * draws(6, *shape, seed=5) * (chance < 0.03)
    smears = F.conv2d(spikes[:, None], torch.tensor([[[[0.1, 0.35, 0.1], [0.35, 1, 0.3], [0.1, 0.3, 0]]]]), padding=1)
    planes = planes + smears[:, 0]
    found = replace_hot_pixels(planes.view(2, 3, *shape))
    every = max(1, shape[0] * (shape[1] - 1) // most_steps)
    expected = np.stack([plain_repair(plane.numpy(), every) for plane in planes])
    assert torch.equal(found.view_as(planes), torch.from_numpy(expected))
    assert 10 < (found.view_as(planes) != planes).sum() < planes.numel() / 10


def test_a_bump_that_is_wider_than_a_spot_is_no_defect() -> None:
    """Its top differs from the mean of its 3 x 3 by less than 6 grey values, though by 20 from what is around."""
    for height, is_defect in ((13.5, False), (13.0, True)):
        picture = torch.full((1, 1, 20, 20), 100.0)
        picture[..., 9:12, 9:12] = 100 + height
        picture[..., 10, 10] = 120
        assert bool((replace_hot_pixels(picture) == 100).all()) == is_defect


def test_rows_go_first_and_then_columns() -> None:
    x = 100 + 3 * draws(2, 2, 400, 1, seed=1) + 2 * draws(2, 2, 1, 390, seed=2) + 4 * draws(2, 2, 400, 390, seed=3)
    x.requires_grad_()
    found = remove_banding(x)
    planes = x.detach().flatten(0, 1).numpy()
    upright = np.stack([plane - plain_offsets(plane)[:, None] for plane in planes])
    expected = np.stack([plane - plain_offsets(plane.T) for plane in upright])
    torch.testing.assert_close(found.flatten(0, 1), torch.from_numpy(expected).float(), atol=1e-3, rtol=0)
    assert not found.requires_grad and not replace_hot_pixels(x).requires_grad
