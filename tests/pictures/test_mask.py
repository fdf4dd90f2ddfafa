"""Masks: what counts as one, and how it is laid over a picture."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from atbsn.pictures import Picture, check_mask, keep_where_black, mask, read_mask, write_picture
from atbsn.utils.errors import UserError

LEVELS = np.arange(256, dtype=np.uint8).reshape(8, 32)


def grey(values: np.ndarray, **more: Any) -> Picture:
    return Picture(np.repeat(values[..., None], 3, axis=2), grey=True, **more)


def test_depths_say_the_same(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", grey(LEVELS))
    write_picture(tmp_path / "b.png", grey(LEVELS * np.uint16(257)))
    tifffile.imwrite(tmp_path / "c.tif", LEVELS.astype(np.float32) / 255)
    Image.fromarray(LEVELS >= 128).save(tmp_path / "d.png")  # 1 bit
    assert np.array_equal(read_mask(tmp_path / "a.png"), LEVELS)
    assert np.array_equal(read_mask(tmp_path / "b.png"), LEVELS * np.uint16(257))
    assert np.allclose(read_mask(tmp_path / "c.tif"), LEVELS / 255)
    assert np.array_equal(read_mask(tmp_path / "d.png"), np.where(LEVELS >= 128, 255, 0))


def test_equal_channels_and_full_opacity_are_grey(tmp_path: Path) -> None:
    rgba = np.dstack([LEVELS, LEVELS, LEVELS, np.full_like(LEVELS, 255)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png"), LEVELS)


@pytest.mark.parametrize(("channel", "said"), [(2, "it has colours; convert it"), (3, "no transparency")])
def test_colours_and_transparency_are_refused(tmp_path: Path, channel: int, said: str) -> None:
    rgba = np.dstack([LEVELS, LEVELS, LEVELS, np.full_like(LEVELS, 255)])
    rgba[3, 3, channel] = 1
    Image.fromarray(rgba).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=rf"a\.png: .*({said})"):
        read_mask(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((4, 6, 3), np.uint8), "m: shape (4, 6, 3) is not (H, W); a mask has one channel"),
        (np.zeros((4, 6), np.uint8), "m: 6 x 4 pixels, but a.png has 4 x 6; make the mask as large as it"),
        (np.zeros((6, 4), np.int64), "m: dtype int64 is not bool, uint8, uint16 or float"),
        (np.full((6, 4), 255.0), "m: 255 to 255 is not within 0 and 1"),
        (np.full((6, 4), np.nan), "m: nan to nan is not within 0 and 1"),
    ],
)
def test_what_is_no_mask_for_a_picture(values: np.ndarray, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        check_mask(values, (6, 4), "m", "a.png")
    check_mask(np.zeros((6, 4), bool), (6, 4))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("band", [10**6, 7 * 3])
def test_white_is_clean_black_is_noisy_grey_between(monkeypatch: pytest.MonkeyPatch, dtype: Any, band: int) -> None:
    monkeypatch.setattr(mask, "_BAND", band)  # a row at a time, too
    random = np.random.default_rng(0)
    most = 255 if dtype == np.float32 else np.iinfo(dtype).max
    noisy, clean = ((random.random((9, 7, 3)) * most).astype(dtype) for _ in range(2))
    shares = np.repeat([[0, 0.2, 1, 0.8, 0, 1, 1 / 255]], 9, axis=0).astype(np.float32)
    shares[4] = 1
    wanted = (1 - shares[..., None].astype(np.float64)) * noisy + shares[..., None] * clean.astype(np.float64)
    result = clean.copy()
    keep_where_black(noisy, result, shares)
    assert np.array_equal(result[shares == 0], noisy[shares == 0])
    assert np.array_equal(result[shares == 1], clean[shares == 1])
    assert np.abs(result - wanted).max() <= (1e-4 if dtype == np.float32 else 0.5 + 1e-2)
    for other in (np.round(shares * 255).astype(np.uint8), np.round(shares * 65535).astype(np.uint16)):
        again = clean.copy()
        keep_where_black(noisy, again, other)
        assert np.abs(again.astype(float) - result).max() <= (1e-4 * most if dtype == np.float32 else 1)
    keep_where_black(noisy, clean, np.zeros((9, 7), bool))
    assert np.array_equal(clean, noisy)
