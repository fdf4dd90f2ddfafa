"""Blocks of pictures: which are kept, and what the subtraction of a plane does to them, by hand and by matrices."""

import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from atbsn.noise.blocks import (
    BlockStore,
    block_covariance,
    fine_band,
    fine_share,
    lag_products,
    plane_response,
    without_plane,
)
from atbsn.noise.sampling import REACH


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plane(side: int = 16) -> torch.Tensor:
    down, across = torch.meshgrid(torch.arange(1.0 * side), torch.arange(1.0 * side), indexing="ij")
    return 50 + 3 * down - 2 * across


def test_planes_are_subtracted_and_nothing_else_is() -> None:
    bent = torch.cos(math.pi / 16 * (torch.arange(16) + 0.5) * 2).expand(16, 16)  # orthogonal to all planes
    blocks = torch.stack([plane(), bent, plane() + bent]).flatten(1)
    expected = torch.stack([torch.zeros(16, 16), bent, bent]).flatten(1)
    torch.testing.assert_close(without_plane(blocks), expected, atol=1e-4, rtol=0)
    white = without_plane(noise(7, 2, 256).double())
    torch.testing.assert_close(without_plane(white), white)
    assert (white @ torch.stack([torch.ones(256), plane().flatten()], dim=1).double()).abs().max() < 1e-4


def test_products_at_a_lag_are_sums_over_the_pixels_that_both_have() -> None:
    """More blocks than are transformed at once."""
    blocks = noise(1030, 2, 256)
    found = lag_products(blocks)
    squares = blocks.unflatten(2, (16, 16)).double()
    for down, along in ((0, 0), (0, 1), (1, 0), (2, -3), (-4, 4), (4, 4)):
        first = squares[:, :, max(0, -down) : 16 - max(0, down), max(0, -along) : 16 - max(0, along)]
        second = squares[:, :, max(0, down) : 16 + min(0, down), max(0, along) : 16 + min(0, along)]
        sums = torch.einsum("nihw,njhw->ij", first, second)
        expected = (sums + sums.T) / 2  # even: the mean of lag d and lag -d
        torch.testing.assert_close(found[..., 4 + down, 4 + along].double(), expected, atol=0.05, rtol=1e-4)
    assert found.shape == (2, 2, 9, 9)


def test_a_block_has_the_covariance_of_its_lags() -> None:
    correlation = noise(9, 9)
    covariance = block_covariance(correlation)
    assert covariance.shape == (256, 256)
    for (row, column), (other_row, other_column) in (
        ((3, 5), (3, 5)), ((3, 5), (4, 5)), ((3, 5), (1, 9)), ((15, 0), (11, 4)), ((0, 0), (0, 15)), ((9, 9), (9, 14)),
        ((9, 9), (14, 9)),
    ):  # fmt: skip
        down, along = other_row - row, other_column - column
        inside = max(abs(down), abs(along)) <= 4
        expected = float(correlation[4 + down, 4 + along]) if inside else 0.0
        assert float(covariance[16 * row + column, 16 * other_row + other_column]) == expected


def test_the_response_is_the_covariance_that_planes_leave() -> None:
    """For an even correlation C: the sum over pixels p of (P C P)[p, p + d]; and it is computed once."""
    correlation = noise(9, 9).double()
    correlation = correlation + correlation.flip(0, 1)
    down, across = torch.meshgrid(torch.arange(16.0) - 7.5, torch.arange(16.0) - 7.5, indexing="ij")
    basis = torch.stack([torch.ones(16, 16), down, across]).flatten(1).T.double()
    project = torch.eye(256, dtype=torch.float64) - basis @ torch.linalg.pinv(basis)
    left = (project @ block_covariance(correlation) @ project).view(16, 16, 16, 16)
    found = (plane_response() @ correlation.flatten()).view(9, 9)
    for down, along in ((0, 0), (0, 1), (3, -2), (4, 4)):  # type: ignore[assignment]
        d, a = int(down), int(along)
        pairs = [
            left[row, column, row + d, column + a]
            for row in range(16 - d)
            for column in range(max(0, -a), 16 - max(0, a))
        ]
        assert float(found[4 + d, 4 + a]) == pytest.approx(float(sum(pairs)), rel=1e-6, abs=1e-6)
    assert plane_response() is plane_response() and plane_response().shape == (81, 81)


@pytest.mark.parametrize(("radius", "left_out"), [(0, 0), (1, 1), (2, 4), (4, 15), (6, 33)])
def test_a_fine_band_is_what_has_many_half_waves(radius: int, left_out: int) -> None:
    """Of 16 x 16 functions, those with u^2 + v^2 below the squared radius are left out."""
    band = fine_band(radius)
    assert band.shape == (256, 256 - left_out)
    torch.testing.assert_close(band.T @ band, torch.eye(256 - left_out, dtype=band.dtype))
    block = noise(16, 16, seed=3).double().numpy()
    kept = [dctn(block, norm="ortho")[u, v] for u in range(16) for v in range(16) if u * u + v * v >= radius * radius]
    assert (torch.from_numpy(block.ravel()) @ band).tolist() == pytest.approx(kept)
    assert fine_band(radius) is fine_band(radius)


def test_a_band_holds_its_share_of_white_noise_and_more_of_blue_noise() -> None:
    correlation = torch.zeros(2, 2, 9, 9)
    correlation[0, 0, 4, 4] = correlation[1, 1, 4, 4] = 1
    correlation[1, 1, 4, 3] = correlation[1, 1, 4, 5] = -0.4
    share, deviation = fine_share(correlation, 6)
    assert float(share[0]) == pytest.approx(223 / 256) and 223 / 256 < float(share[1]) < 1
    # The energies of independent Gaussian numbers: sqrt(2 / M) of their mean.
    assert fine_share(correlation[:1, :1], 6)[1] == pytest.approx((2 / 223) ** 0.5)
    assert fine_share(correlation[:1, :1], 0)[1] == pytest.approx((2 / 256) ** 0.5)
    fields = noise(20000, 16, 17, seed=1)
    blue = (fields[..., 1:] - 0.5 * fields[..., :-1]) / 1.25**0.5  # lag 1: -0.4
    energy = (blue.flatten(1).double() @ fine_band(6)).square().sum(1)
    assert float(energy.mean()) / 256 == pytest.approx(float(share[1]), rel=0.01)
    both = (float(energy.std() / energy.mean()) + (2 / 223) ** 0.5) / 2
    assert deviation == pytest.approx(both, rel=0.01)


def test_a_picture_is_cut_from_its_upper_left_corner() -> None:
    """40 x 50: two rows of three blocks; less their base, at its intensities."""
    noisy, base = 100 + 9 * noise(2, 40, 50), 90 + noise(2, 40, 50, seed=1)
    store = BlockStore()
    store.add(noisy)
    store.add(noisy, base)
    blocks, means, owner = store.blocks()
    assert owner.tolist() == [0] * 6 + [1] * 6 and store.pictures == 2
    for number, (row, column) in enumerate(np.ndindex(2, 3)):
        here = np.s_[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        torch.testing.assert_close(blocks[number].float(), noisy[here].flatten(1), atol=0.1, rtol=0)
        torch.testing.assert_close(means[number], noisy[here].mean((1, 2)))
        torch.testing.assert_close(blocks[6 + number].float(), (noisy - base)[here].flatten(1), atol=0.1, rtol=0)
        torch.testing.assert_close(means[6 + number], base[here].mean((1, 2)))


def test_channels_that_are_black_are_no_numbers_and_blocks_that_are_white_are_not_kept() -> None:
    noisy = 100 + 9 * noise(2, 16, 64)
    noisy[0, :, 16:32] = 0
    noisy[1, :, 32:48] = 255
    store = BlockStore()
    store.add(noisy)
    blocks, means, _ = store.blocks()
    assert len(blocks) == 3
    assert blocks.isnan().flatten(1).sum(1).tolist() == [0, 256, 0] and blocks[1, 0].isnan().all()
    torch.testing.assert_close(
        means[:, 1], torch.stack([noisy[1, :, place : place + 16].mean() for place in (0, 16, 48)])
    )


def test_blocks_without_noise_are_not_kept() -> None:
    """A sky of one colour over noise."""
    noisy = 60 + 9 * noise(1, 128, 96)
    noisy[:, :64] = 200
    store = BlockStore()
    store.add(noisy)
    assert len(store.blocks()[0]) == 24 and store.blocks()[1].max() < 70


def stripes(levels: tuple[int, ...], counts: tuple[int, ...]) -> torch.Tensor:
    """(1, 16, W): ``counts`` blocks of each of ``levels``, side by side."""
    values = torch.cat([torch.full((16 * count,), 1.0 * level) for level, count in zip(levels, counts, strict=True)])
    return (values + noise(16, len(values)))[None]


def test_a_picture_keeps_as_many_blocks_of_each_intensity_as_it_can() -> None:
    """Twelve of 20, 3 and 30: three rare ones, and the others in equal parts or one more."""
    store = BlockStore(per_picture=12)
    store.add(stripes((40, 120, 200), (20, 3, 30)))
    means = store.blocks()[1][:, 0]
    counts = [int(((means - level).abs() < 20).sum()) for level in (40, 120, 200)]
    assert counts[1] == 3 and sum(counts) == 12 and abs(counts[0] - counts[2]) <= 1
    assert (means[1:] > means[:-1] - 20).all()  # in the order of the picture
    outside = BlockStore(per_picture=2)
    outside.add(stripes((100,), (18,)), stripes((-30, 300), (9, 9)))  # what a network gives may lie outside
    assert sorted(outside.blocks()[1][:, 0].tolist()) == pytest.approx([-30, 300], abs=2)


def test_intervals_are_sixteen_grey_values_wide() -> None:
    """Two blocks in neighbouring intervals are both kept; of two in one interval, only as many as of any other."""
    store = BlockStore(per_picture=2)
    store.add(stripes((94, 99), (30, 1)))
    assert store.blocks()[1].max() > 97
    kept = []
    for seed in range(6):
        store = BlockStore(per_picture=2, seed=seed)
        store.add(stripes((99, 109), (30, 1)))
        kept.append(bool(store.blocks()[1].max() > 105))
    assert not all(kept)


def test_the_choice_is_that_of_the_seed() -> None:
    picture = stripes((100,), (200,))

    def chosen(seed: int) -> list[float]:
        store = BlockStore(per_picture=20, seed=seed)
        store.add(picture)
        return store.blocks()[1][:, 0].tolist()

    assert chosen(0) == chosen(0) != chosen(1) and len(chosen(0)) == len(set(chosen(0))) == 20
    default = BlockStore(per_picture=20)
    default.add(picture)
    assert default.blocks()[1][:, 0].tolist() == chosen(0)


def test_beyond_the_capacity_half_of_every_picture_goes() -> None:
    """30 and 30 blocks of at most 50: 15 and 15; a third picture may keep 20 of what was 40, so 50 at most."""
    store = BlockStore(capacity=50, per_picture=40)
    for _ in range(2):
        store.add(stripes((100,), (30,)))
    assert store.blocks()[2].bincount().tolist() == [15, 15]
    store.add(stripes((100,), (30,)))
    blocks, means, owner = store.blocks()
    assert owner.bincount().tolist() == [15, 15, 20]
    torch.testing.assert_close(blocks.float().mean(2), means, atol=0.05, rtol=0)  # each mean is that of its block
    assert store.pictures == 3


def test_every_picture_keeps_a_block() -> None:
    store = BlockStore(capacity=2, per_picture=2)
    for _ in range(3):
        store.add(stripes((100,), (4,)))
    assert store.blocks()[2].tolist() == [0, 1, 2]


def test_lags_reach_as_far_as_noise_is_drawn() -> None:
    assert REACH == 4 and lag_products(torch.ones(1, 1, 256))[0, 0, 4, 4] == pytest.approx(256)
