"""The quick estimate of the level: one number for a picture, and one before and after denoising."""

import math

import numpy as np
import pytest

from atbsn.noise.level import noise_before_and_after, noise_level, sample_blocks


def noisy(level: float, shape: tuple[int, int] = (256, 256), value: float = 120.0, seed: int = 0) -> np.ndarray:
    """White noise on a slope that is the same plane in every channel."""
    plane = value + 0.05 * np.arange(shape[1])[None, :, None] + 0.05 * np.arange(shape[0])[:, None, None]
    noise = np.random.default_rng(seed).normal(0, level, (*shape, 3))
    return np.clip(np.round(plane + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("level", [2.0, 6.0, 20.0])
def test_the_level_of_white_noise_on_a_slope(level: float) -> None:
    assert noise_level(noisy(level)) == pytest.approx(level, rel=0.1)


def test_units_do_not_depend_on_the_type_of_the_samples() -> None:
    picture = noisy(6.0)
    expected = noise_level(picture)
    assert noise_level(picture.astype(np.uint16) * 257) == pytest.approx(expected, rel=1e-3)
    assert noise_level(picture.astype(np.float32)) == pytest.approx(expected, rel=1e-3)


def test_texture_does_not_count_where_something_is_flat() -> None:
    picture = noisy(6.0, value=98).astype(np.int16)
    picture[:, 192:] += np.where(np.indices((256, 64)).sum(0) % 4 < 2, 20, -20)[..., None].astype(np.int16)
    assert noise_level(picture.astype(np.uint8)) == pytest.approx(6, rel=0.1)


def test_intensities_count_by_their_blocks_and_as_variances() -> None:
    """A quarter of the picture is brighter and has four times the noise: sqrt(3/4 4^2 + 1/4 16^2)."""
    picture = noisy(4.0)
    picture[:, 192:] = noisy(16.0, (256, 64), value=190)
    assert noise_level(picture) == pytest.approx((0.75 * 4**2 + 0.25 * 16**2) ** 0.5, rel=0.1)


def test_a_small_picture_is_judged_whole_and_a_smaller_one_not_at_all() -> None:
    """16 blocks in many intervals, none of which has 16; then 15 blocks."""
    rows, columns = np.divmod(np.arange(16), 4)
    picture = np.empty((64, 64, 3), np.uint8)
    for number, (row, column) in enumerate(zip(rows, columns, strict=True)):
        block = noisy(6.0, (16, 16), value=30 + 12 * number, seed=number)
        picture[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = block
    assert noise_level(picture) == pytest.approx(6, rel=0.15)
    assert noise_level(picture[:48]) is None
    assert noise_level(np.zeros((64, 64, 3), np.uint8)) is None and noise_level(np.zeros((9, 64, 3), np.uint8)) is None


def test_the_same_blocks_of_pictures_of_one_size() -> None:
    places = np.indices((70, 100)).transpose(1, 2, 0)
    blocks = sample_blocks(places, 9)
    assert blocks.shape == (9, 16, 16, 2)
    corners = blocks[:, 0, 0]
    assert (corners % 16 == 0).all() and len({tuple(corner) for corner in corners.tolist()}) == 9
    assert (blocks - corners[:, None, None] == np.indices((16, 16)).transpose(1, 2, 0)).all()
    assert (sample_blocks(places, 9) == blocks).all() and (sample_blocks(places, 9, seed=1) != blocks).any()
    whole = sample_blocks(places)
    assert {tuple(corner) for corner in whole[:, 0, 0].tolist()} == {
        (16 * r, 16 * c) for r in range(4) for c in range(6)
    }
    assert sample_blocks(places[:15]).shape == (0, 16, 16, 2)


def test_before_and_after_are_measured_where_the_result_is_flattest() -> None:
    before, after = noisy(8.0), noisy(2.0, seed=1)
    stripes = 40 * (np.indices((256, 200)).sum(0) % 4 < 2).astype(np.uint8)[..., None]
    before[:, :200] += stripes
    after[:, :200] += stripes
    found = noise_before_and_after(sample_blocks(before), sample_blocks(after))
    assert found == pytest.approx((8, 2), rel=0.1)
    few = [sample_blocks(x[:48, :80]) for x in (before, after)]
    assert len(few[0]) == 15 and noise_before_and_after(*few) is None
    enough = [sample_blocks(x[:64, :64]) for x in (before, after)]
    assert len(enough[0]) == 16 and noise_before_and_after(*enough) is not None


def plain_variance(block: np.ndarray) -> float:
    """Mean square of a block (16, 16, 3) less the plane that fits each channel best, by least squares."""
    down, across = np.indices((16, 16)).reshape(2, -1)
    plane = np.stack([np.ones(256), down, across], axis=1)
    values = block.reshape(256, 3).astype(float)
    return float(np.square(values - plane @ np.linalg.lstsq(plane, values, rcond=None)[0]).mean())


def plain_level(blocks: np.ndarray) -> float:
    """What ``noise_level`` says it does: in each of eight intervals with 16 blocks or more, the variance below which a
    tenth of them lies, times e^0.2; their mean over the blocks."""
    total = count = 0.0
    variances = np.array([plain_variance(block) for block in blocks])
    interval = np.array([block.mean() // 32 for block in blocks])
    for number in range(8):
        own = variances[interval == number]
        if len(own) >= 16:
            total += len(own) * math.exp(np.quantile(np.log(own), 0.1) + 0.2)
            count += len(own)
    return (total / count) ** 0.5


def many_levels() -> np.ndarray:
    """(160, 128, 3): 80 blocks, whose intensities lie in several intervals, one of them with fewer than 16."""
    rows = [
        noisy(4.0 + number, (32, 128), value=value, seed=number) for number, value in enumerate((40, 58, 118, 150, 200))
    ]
    picture = np.concatenate(rows)
    picture[:16, :80] = noisy(2.0, (16, 80), value=235, seed=9)
    return picture


def test_the_level_is_what_it_says_it_is() -> None:
    picture = many_levels()
    blocks = sample_blocks(picture)
    intervals = np.bincount([int(block.mean() // 32) for block in blocks], minlength=8)
    assert 0 < intervals[7] < 16 and (intervals >= 16).sum() >= 3
    assert noise_level(picture) == pytest.approx(plain_level(blocks), rel=1e-4)
    some = sample_blocks(picture, 60, seed=4)
    assert noise_level(picture, 60, seed=4) == pytest.approx(plain_level(some), rel=1e-4)
    assert noise_level(picture, 60) == pytest.approx(plain_level(sample_blocks(picture, 60)), rel=1e-4)


def test_blocks_half_black_or_half_white_in_one_channel_do_not_count() -> None:
    """From exactly a half on: 32 blocks of stronger noise beside 16, a picture whose level they would raise."""
    good = noisy(5.0, (64, 64))
    expected = plain_level(sample_blocks(good))
    even = np.indices((128, 64)).sum(0) % 2 == 0
    for end, channels in ((255, 1), (0, slice(None))):
        spoiled = noisy(20.0, (128, 64), seed=1)
        spoiled[even, channels] = end
        assert noise_level(np.concatenate([good, spoiled])) == pytest.approx(expected, rel=1e-4)
        spoiled[0::16, 0::16] = 120  # a pixel less in every block
        both = np.concatenate([good, spoiled])
        expected_of_both = plain_level(sample_blocks(both))
        assert expected_of_both > 10 and noise_level(both) == pytest.approx(expected_of_both, rel=1e-4)


def test_a_channel_may_be_black_and_all_values_near_black_or_white() -> None:
    """Most values of a block are above 0 where one channel of three is 0; 1 is above 0 and 254 below 255."""
    for end, channels in ((0, 1), (1, slice(None)), (254, slice(None))):
        kept = noisy(5.0, (128, 64), seed=1)
        kept[:, :, channels] = end
        if end:
            kept[np.indices((128, 64)).sum(0) % 4 == 0] = 100
        assert noise_level(kept) == pytest.approx(plain_level(sample_blocks(kept)), rel=1e-4), end


def test_before_and_after_are_means_over_the_same_flattest_tenth() -> None:
    """Of 320 blocks, the 32 with the least left in them; of 80, no fewer than 16."""
    for copies in (4, 1):
        before = np.concatenate([many_levels()] * copies)
        after = np.concatenate([noisy(1.0 + number, many_levels().shape[:2], seed=number) for number in range(copies)])
        blocks = [sample_blocks(picture) for picture in (before, after)]
        variances = [np.array([plain_variance(block) for block in part]) for part in blocks]
        flattest = np.argsort(variances[1])[: max(16, 8 * copies)]
        expected = [part[flattest].mean() ** 0.5 for part in variances]
        assert noise_before_and_after(*blocks) == pytest.approx(expected, rel=1e-4)


def test_a_large_picture_is_sampled() -> None:
    assert len(sample_blocks(np.zeros((1040, 1040, 1), np.uint8))) == 4096 < 65 * 65


def test_intervals_are_32_grey_values_wide() -> None:
    """16 blocks a little below 192, and 32 above it with three times the noise, are two of them."""
    rng = np.random.default_rng(0)
    values = np.repeat([191.6, 193.0], [16, 32])
    blocks = values[:, None, None, None] + np.where(values < 192, 2.0, 6.0)[:, None, None, None] * rng.normal(
        size=(48, 16, 16, 3)
    )
    picture = blocks.reshape(6, 8, 16, 16, 3).transpose(0, 2, 1, 3, 4).reshape(96, 128, 3).astype(np.float32)
    assert noise_level(picture) == pytest.approx(plain_level(sample_blocks(picture)), rel=1e-4)


def test_a_picture_of_one_colour_has_hardly_any_noise() -> None:
    """Its level is a number nevertheless: the root of the least variance that is counted, 1e-4, times e^0.2."""
    assert noise_level(np.full((64, 64, 3), 90, np.uint8)) == pytest.approx(0.01 * math.exp(0.1), rel=1e-3)
