"""Hot pixels and banding on pictures of which the truth is known."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

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
