"""The quick estimate of the level: one number for a picture, and one before and after denoising."""

import numpy as np
import pytest

from atbsn.noise.level import noise_before_and_after, noise_level, sample_blocks


def noisy(level: float, shape: tuple[int, int] = (256, 256), value: float = 120.0, seed: int = 0) -> np.ndarray:
    """White noise on a slope that is the same plane in every channel."""
    plane = value + 0.05 * np.arange(shape[1])[None, :, None] + 0.05 * np.arange(shape[0])[:, None, None]
    noise = np.random.default_rng(seed).normal(0, level, (*shape, 3))
    return np.clip(np.round(plane + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("level", [2.0, 6.0, 20.0])
def test_the_level_of_white_noise_on_a_slope(level):
    assert noise_level(noisy(level)) == pytest.approx(level, rel=0.1)


def test_units_do_not_depend_on_the_type_of_the_samples():
    picture = noisy(6.0)
    expected = noise_level(picture)
    assert noise_level(picture.astype(np.uint16) * 257) == pytest.approx(expected, rel=1e-3)
    assert noise_level(picture.astype(np.float32)) == pytest.approx(expected, rel=1e-3)


def test_texture_does_not_count_where_something_is_flat():
    picture = noisy(6.0, value=98).astype(np.int16)
    picture[:, 192:] += np.where(np.indices((256, 64)).sum(0) % 4 < 2, 20, -20)[..., None].astype(np.int16)
    assert noise_level(picture.astype(np.uint8)) == pytest.approx(6, rel=0.1)


def test_intensities_count_by_their_blocks_and_as_variances():
    """A quarter of the picture is brighter and has four times the noise: sqrt(3/4 4^2 + 1/4 16^2)."""
    picture = noisy(4.0)
    picture[:, 192:] = noisy(16.0, (256, 64), value=190)
    assert noise_level(picture) == pytest.approx((0.75 * 4**2 + 0.25 * 16**2) ** 0.5, rel=0.1)


def test_a_small_picture_is_judged_whole_and_a_smaller_one_not_at_all():
    """16 blocks in many intervals, none of which has 16; then 15 blocks."""
    rows, columns = np.divmod(np.arange(16), 4)
    picture = np.empty((64, 64, 3), np.uint8)
    for number, (row, column) in enumerate(zip(rows, columns, strict=True)):
        block = noisy(6.0, (16, 16), value=30 + 12 * number, seed=number)
        picture[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = block
    assert noise_level(picture) == pytest.approx(6, rel=0.15)
    assert noise_level(picture[:48]) is None
    assert noise_level(np.zeros((64, 64, 3), np.uint8)) is None and noise_level(np.zeros((9, 64, 3), np.uint8)) is None


def test_the_same_blocks_of_pictures_of_one_size():
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


def test_before_and_after_are_measured_where_the_result_is_flattest():
    before, after = noisy(8.0), noisy(2.0, seed=1)
    stripes = 40 * (np.indices((256, 200)).sum(0) % 4 < 2).astype(np.uint8)[..., None]
    before[:, :200] += stripes
    after[:, :200] += stripes
    found = noise_before_and_after(sample_blocks(before), sample_blocks(after))
    assert found == pytest.approx((8, 2), rel=0.1)
    few = [sample_blocks(x[:48, :80]) for x in (before, after)]
    assert len(few[0]) == 15 and noise_before_and_after(*few) is None
