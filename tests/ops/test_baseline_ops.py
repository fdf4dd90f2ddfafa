"""Mosaics, refinement, neighbours, permutations, masks and texture: against plain loops and the authors' arrays."""

from pathlib import Path

import pytest
import torch
from helpers import golden
from safetensors.torch import load_file

from atbsn.ops.masker import collect_masked, masked_copies
from atbsn.ops.neighbours import PAIRS, draw_neighbours, neighbours
from atbsn.ops.permutation import draw_permutations, permuted_sub_images
from atbsn.ops.pixel_shuffle import pixel_shuffle_downsample, pixel_shuffle_upsample
from atbsn.ops.refinement import random_replacing_refinement, replacement_masks
from atbsn.ops.texture import local_std, texture_weight
from atbsn.utils.errors import UserError


@pytest.mark.parametrize(("stride", "margin"), [(1, 0), (1, 2), (2, 2), (5, 2), (3, 0)])
def test_mosaic(stride: int, margin: int) -> None:
    x = torch.rand(2, 3, 15 * stride, 4 * stride)
    tiles = pixel_shuffle_downsample(x, stride, margin)
    assert tiles.shape == (2, 3, x.shape[2] + 2 * stride * margin, x.shape[3] + 2 * stride * margin)
    height, width = 15 + 2 * margin, 4 + 2 * margin
    for row in range(stride):
        for column in range(stride):
            tile = tiles[..., row * height : (row + 1) * height, column * width : (column + 1) * width]
            inside = tile[..., margin : margin + 15, margin : margin + 4]
            assert torch.equal(inside, x[..., row::stride, column::stride])
            assert tile.count_nonzero() == inside.count_nonzero(), "the margin is zero"
    assert torch.equal(pixel_shuffle_upsample(tiles, stride, margin), x)


def test_replacement_masks_draw_elements() -> None:
    noisy = torch.zeros(1, 3, 200, 200)
    masks = list(replacement_masks(noisy, 3, 0.16, torch.Generator().manual_seed(0)))
    assert len(masks) == 3 and all(mask.shape == noisy.shape for mask in masks)
    assert torch.stack(masks).float().mean().item() == pytest.approx(0.16, abs=0.01)
    assert not torch.equal(masks[0], masks[1])
    assert (masks[0][:, 0] != masks[0][:, 1]).any(), "channels apart"


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_refinement_is_the_mean_of_its_terms(at_once: int) -> None:
    noisy, estimate = torch.rand(2, 3, 9, 8), torch.rand(2, 3, 9, 8)
    masks = [torch.rand(2, 3, 9, 8) < 0.3 for _ in range(4)]
    expected = torch.stack([torch.where(mask, noisy, estimate) * 2 for mask in masks]).mean(dim=0)
    output = random_replacing_refinement(lambda x: x * 2, noisy, estimate, masks, at_once)
    torch.testing.assert_close(output, expected)


def test_neighbours_of_the_authors(assets: Path) -> None:
    _, expected = golden.read(assets, "n2n_width8")
    first, second = neighbours(expected["x"], expected["index"])
    assert torch.equal(first, expected["g1"])
    assert torch.equal(second, expected["g2"])


def test_every_pair_is_of_neighbours_and_drawn() -> None:
    index = draw_neighbours(torch.zeros(2, 3, 80, 120))
    assert index.shape == (2, 40, 60)
    assert torch.bincount(index.flatten(), minlength=8).min() > 400
    places = torch.arange(4.0).view(1, 1, 2, 2)
    for number, pair in enumerate(PAIRS):
        first, second = neighbours(places, torch.full((1, 1, 1), number))
        assert (first.item(), second.item()) == pair
        assert abs(pair[0] % 2 - pair[1] % 2) + abs(pair[0] // 2 - pair[1] // 2) == 1
    with pytest.raises(UserError, match="7 x 8 pixels"):
        draw_neighbours(torch.zeros(1, 3, 7, 8))


def test_permuted_sub_images_of_the_authors(assets: Path) -> None:
    _, expected = golden.read(assets, "sdap_width16")
    assert torch.equal(permuted_sub_images(expected["x"], expected["perm"], 5), expected["subs"])


def test_permutations_hold_each_pixel_once_and_are_uniform() -> None:
    x = torch.zeros(3, 2, 200, 150)
    permutations = draw_permutations(x, 5)
    assert permutations.shape == (3, 40, 30, 25)
    assert torch.equal(permutations.sort(dim=-1).values, torch.arange(25).expand(3, 40, 30, 25))
    frequency = torch.bincount(permutations[..., 0].flatten(), minlength=25) / (3 * 40 * 30)
    assert (frequency - 0.04).abs().max() < 0.015
    with pytest.raises(UserError, match=r"128 x 160 pixels.*multiple of 5"):
        draw_permutations(torch.zeros(1, 3, 128, 160), 5)


def test_masked_copies_of_the_authors(assets: Path) -> None:
    _, expected = golden.read(assets, "b2u_width8")
    torch.testing.assert_close(masked_copies(expected["x"]), expected["masked"], rtol=0, atol=1e-6)
    two = masked_copies(expected["x_two"])
    torch.testing.assert_close(two, expected["masked_two"], rtol=0, atol=1e-6)
    unmasked = (expected["mask_two"] == 0).expand_as(two)
    assert torch.equal(two[unmasked], expected["x_two"].repeat_interleave(16, dim=0)[unmasked])


def test_collected_positions_are_where_the_copies_are_blind(assets: Path) -> None:
    _, expected = golden.read(assets, "b2u_width8")
    numbers = torch.arange(32.0).view(32, 1, 1, 1).expand(32, 2, 8, 12)
    collected = collect_masked(numbers)
    for picture in range(2):
        masks = expected["mask_two"][16 * picture : 16 * picture + 16].float()
        which = (masks * numbers[16 * picture : 16 * picture + 16, :1]).sum(dim=0)
        assert torch.equal(collected[picture], which.expand(2, 8, 12))


@pytest.mark.parametrize(("stds", "name"), [((1, 5), "alpha"), ((0.5, 5), "alpha_half_5"), ((1, 3), "alpha_1_3")])
def test_texture_weights_of_the_authors(assets: Path, stds: tuple[float, int], name: str) -> None:
    expected = load_file(assets / "sass_alpha.io.safetensors")
    torch.testing.assert_close(local_std(expected["bnn"]), expected["std"], rtol=0, atol=1e-5)
    torch.testing.assert_close(texture_weight(expected["bnn"], *stds), expected[name], rtol=0, atol=1e-5)


def test_local_std_keeps_its_digits_where_the_picture_is_bright() -> None:
    texture = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 0.02
    exact = local_std_in_double(250 + texture)
    torch.testing.assert_close(local_std(250 + texture).double(), exact, rtol=5e-3, atol=0)
    grey = torch.full((1, 3, 20, 20), 250.3)
    assert local_std(grey).max() < 1e-4


def local_std_in_double(picture: torch.Tensor) -> torch.Tensor:
    grey = torch.nn.functional.pad(picture.double().mean(dim=1, keepdim=True), (3, 3, 3, 3), mode="reflect")
    windows = torch.nn.functional.unfold(grey, 7)
    return windows.std(dim=1, correction=0).view(1, 1, *picture.shape[2:])


def test_texture_weights_have_no_gradient() -> None:
    assert not texture_weight(torch.rand(1, 3, 9, 9, requires_grad=True)).requires_grad
