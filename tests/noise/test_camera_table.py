"""Tables of cameras: every number is drawn from its own range, by its own law, for its own share of the cameras."""

import json
import math
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest
import torch

from atbsn.noise.camera_table import CameraTable
from atbsn.noise.prior import CameraPrior
from atbsn.utils.errors import UserError

COUNT = 4000
FIXED: dict[str, Any] = {
    "tone_exponent": (0.9, 0.9), "tone_contrast": (0.25, 0.25), "balance": (1.5, 1.5), "shot_noise": (1e-3, 1e-3),
    "read_slope": 1.5, "read_offset": -2.0, "read_spread": 0.0, "banding_level": (0.3, 0.3),
    "hot_density": (1e-4, 1e-4), "luma_smoothing": (0.7, 0.7), "colour_smoothing": (1.7, 1.7),
    "blotch_level": (0.4, 0.4), "quality": (80.0, 80.0),
    "matrix_mean": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), "matrix_std": (0.0,) * 6,
}  # fmt: skip
"""Every range is one number."""
SHARES = ("toned", "clipped", "banding", "hot_pixels", "processed", "luma_alone", "blotches", "compressed")


def drawn(count: int = COUNT, /, **changes: Any) -> CameraTable:
    torch.manual_seed(0)
    return CameraTable.drawn(CameraPrior(**changes), torch.empty(count, 1, 1, 1))


def column(table: CameraTable, name: str) -> torch.Tensor:
    return getattr(table, name).flatten(1)


def test_a_share_of_all_gives_every_camera_what_the_range_says() -> None:
    table = drawn(5, **FIXED, **dict.fromkeys(SHARES, 1.0))
    expected = {
        "exponent": [0.9], "contrast": [0.25], "balance": [1.5, 1, 1.5], "shot": [1e-3], "clipped": [1],
        "read": [math.exp(1.5 * math.log(1e-3) - 2)], "banding": [0.3], "hot_density": [1e-4], "luma_smoothing": [0.7],
        "colour_smoothing": [1.7], "blotch_level": [0.4], "quality": [80], "matrix": [1, 2, 3, 4, 5, 6],
    }  # fmt: skip
    for name, row in expected.items():
        torch.testing.assert_close(column(table, name), torch.tensor([row] * 5).float(), msg=name)


def test_a_share_of_none_leaves_every_camera_plain() -> None:
    table = drawn(5, **FIXED, **dict.fromkeys(SHARES, 0.0), anisotropy=0.0)
    plain = {
        "exponent": 1.0, "contrast": 0.0, "clipped": 0.0, "banding": 0.0, "hot_density": 0.0, "luma_smoothing": 0.0,
        "colour_smoothing": 0.0, "blotch_level": 0.0, "quality": 0.0, "luma_gain": 1.0, "colour_gain": 1.0,
        "across": 1.0, "along": 1.0,
    }  # fmt: skip
    for name, value in plain.items():
        assert column(table, name).eq(value).all(), name


@pytest.mark.parametrize(
    ("name", "share", "plain"),
    [
        ("exponent", "toned", 1.0), ("contrast", "toned", 0.0), ("clipped", "clipped", 0.0),
        ("banding", "banding", 0.0), ("hot_density", "hot_pixels", 0.0), ("luma_smoothing", "processed", 0.0),
        ("colour_smoothing", "processed", 0.0), ("luma_gain", "processed", 1.0), ("colour_gain", "processed", 1.0),
        ("blotch_level", "blotches", 0.0), ("quality", "compressed", 0.0),
    ],
)  # fmt: skip
def test_a_share_is_that_part_of_the_cameras(name: str, share: str, plain: float) -> None:
    table = drawn(**{"luma_alone": 0.0, share: 0.2})
    assert float(column(table, name).ne(plain).float().mean()) == pytest.approx(0.2, abs=0.025)


@pytest.mark.parametrize(
    ("name", "low", "middle", "high"),
    [
        ("exponent", 0.85, 1.025, 1.2), ("contrast", 0.0, 0.3, 0.6), ("banding", 0.05, 0.225, 0.4),
        ("hot_density", 1e-5, 1e-4, 1e-3), ("shot", 7e-5, (7e-5 * 3e-2) ** 0.5, 3e-2),
        ("luma_smoothing", 0.0, 0.6, 1.2), ("colour_smoothing", 0.0, 1.2, 2.4), ("blotch_level", 0.1, 0.3, 0.5),
        ("luma_gain", 0.7, 0.95, 1.2), ("colour_gain", 0.4, 0.75, 1.1), ("luma_unsmoothed", 0.0, 1 / 8, 0.5),
        ("colour_unsmoothed", 0.0, 1 / 8, 0.5), ("quality", 75.0, 75 + 25 * 0.5**0.5, 100.0),
        ("clipped", 1.0, 1.0, 1.0),
    ],
)  # fmt: skip
def test_numbers_fill_their_ranges(name: str, low: float, middle: float, high: float) -> None:
    """Their median is the middle of a uniform range, that of the logarithms, or of a law that prefers one end: half of
    the square of a uniform number, or a square root for the quality."""
    values = column(drawn(**dict.fromkeys(SHARES, 1.0) | {"luma_alone": 0.0}), name)[:, 0]
    room = 0.01 * (high - low) + 1e-6
    assert low - 1e-6 <= values.min() <= low + room and high - 2 * room <= values.max() <= high + 1e-6
    assert float(values.median()) == pytest.approx(middle, rel=0.15 if high / max(low, 1e-9) > 10 else 0.05)


def test_red_and_blue_have_gains_of_their_own() -> None:
    red, green, blue = column(drawn(), "balance").T
    assert green.eq(1).all() and abs(torch.corrcoef(torch.stack([red, blue]))[0, 1]) < 0.05
    for gain in (red, blue):
        assert 1.2 <= gain.min() < 1.21 and 2.58 < gain.max() <= 2.6
        assert float(gain.median()) == pytest.approx((1.2 * 2.6) ** 0.5, rel=0.03)


def test_read_noise_follows_shot_noise_with_a_normal_spread() -> None:
    """ln b = 1.23 ln a - 3.42 + 1.05 z: fitted to 8,048 profiles of 433 cameras."""
    table = drawn()
    z = ((table.read.log() - 1.23 * table.shot.log() + 3.42) / 1.05).flatten()
    assert [float(z.mean()), float(z.std()), float((z**3).mean())] == pytest.approx([0, 1, 0], abs=0.12)
    assert abs(torch.corrcoef(torch.stack([z, table.shot.flatten().log()]))[0, 1]) < 0.05


def test_colour_is_nearly_lost_where_luma_stays_alone() -> None:
    """To a fifth at most, on top of what smoothing does."""
    alone = column(drawn(luma_alone=1.0, processed=0.0), "colour_gain")
    assert 0 <= alone.min() < 0.002 and 0.198 < alone.max() <= 0.2
    both = column(drawn(luma_alone=1.0, processed=1.0), "colour_gain")
    assert 0.2 < both.max() <= 0.22 and float(both.mean()) == pytest.approx(0.1 * 0.75, rel=0.05)
    some = column(drawn(luma_alone=0.3, processed=0.0), "colour_gain")
    assert float(some.lt(0.21).float().mean()) == pytest.approx(0.3, abs=0.025)


def test_one_side_is_smoothed_less_by_the_anisotropy_at_most() -> None:
    table = drawn(anisotropy=0.3)
    across, along = table.across.flatten(), table.along.flatten()
    assert torch.maximum(across, along).eq(1).all()
    less = torch.minimum(across, along)
    assert (
        0.7 <= less.min() < 0.701 and 0.999 < less.max() <= 1 and float(less.mean()) == pytest.approx(0.85, abs=0.005)
    )
    assert float(across.lt(1).float().mean()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("name", ["banding_down", "subsampled"])
def test_two_ways_are_as_frequent(name: str) -> None:
    values = column(drawn(), name)
    assert set(values.flatten().tolist()) == {0.0, 1.0} and float(values.mean()) == pytest.approx(0.5, abs=0.03)


def test_all_four_ways_of_demosaicing_are_drawn() -> None:
    values = column(drawn(demosaicing=(1.0, 2.0, 3.0, 4.0)), "demosaicing").flatten()
    assert (values.long().bincount() / COUNT).tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.025)
    assert values.dtype == torch.float32


def test_matrices_are_gaussian_up_to_two_standard_deviations() -> None:
    mean, std = torch.arange(6.0), torch.arange(1.0, 7)
    table = drawn(matrix_mean=tuple(mean.tolist()), matrix_std=tuple(std.tolist()))
    z = (column(table, "matrix") - mean) / std
    assert z.amin(dim=0).tolist() == pytest.approx([-2] * 6, abs=1e-5) and z.amax().item() == pytest.approx(2, abs=1e-5)
    assert (z.abs() < 1).float().mean(dim=0).tolist() == pytest.approx([math.erf(2**-0.5)] * 6, abs=0.03)
    assert (torch.corrcoef(z.T) - torch.eye(6)).abs().max() < 0.06


def test_white_stays_white_through_the_colour_matrix() -> None:
    """Off the diagonal 1 to 6, row by row; what rows lack to 1 is on it."""
    matrix = drawn(2, **FIXED).colour_matrix()
    expected = torch.tensor([[-2.0, 1, 2], [3, -6, 4], [5, 6, -10]])
    torch.testing.assert_close(matrix, expected.expand(2, 3, 3))


def test_cameras_are_chosen_and_joined_in_order() -> None:
    table = drawn(4)
    assert len(table) == 4
    chosen = table[torch.tensor([2, 0])]
    joined = CameraTable.joined([chosen, table])
    assert len(chosen) == 2 and len(joined) == 6
    for field in fields(CameraTable):
        values = getattr(table, field.name)
        assert torch.equal(getattr(joined, field.name), torch.cat([values[2:3], values[:1], values]))
    with pytest.raises(FrozenInstanceError):
        table.shot = table.read  # type: ignore[misc]


def test_a_table_is_written_into_new_folders_as_lists_by_name(tmp_path: Path) -> None:
    table, path = drawn(3), tmp_path / "new" / "folder" / "cameras.json"
    for _ in range(2):  # again, where it is already
        table.write(path)
    text = path.read_text()
    content = json.loads(text)
    assert text.endswith("}\n") and list(content) == [field.name for field in fields(CameraTable)]
    assert {name: (len(rows), len(rows[0])) for name, rows in content.items()} == {
        name: (3, {"balance": 3, "matrix": 6}.get(name, 1)) for name in content
    }
    again = CameraTable.read_from(str(path))
    for field in fields(CameraTable):
        torch.testing.assert_close(getattr(again, field.name), getattr(table, field.name))


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        ("shot", [], r"shot is not \(0, 1\) numbers|exponent is not \(0, 1\) numbers"),
        ("balance", [[1.0], [1.0]], r"balance is not \(2, 3\) numbers"),
        ("matrix", [[1.0] * 3] * 2, r"matrix is not \(2, 6\) numbers"),
        ("read", [[1.0]] * 3, r"read is not \(2, 1\) numbers"),
        ("quality", [[float("nan")], [1.0]], r"quality is not \(2, 1\) numbers"),
        ("shot", 1.0, "numbers"),
        ("contrast", [["x"], ["y"]], "not a table of cameras"),
    ],
)
def test_a_column_that_is_wrong_is_named(tmp_path: Path, name: str, rows: object, said: str) -> None:
    path = tmp_path / "cameras.json"
    drawn(2).write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: rows}))
    with pytest.raises(UserError, match=said) as error:
        CameraTable.read_from(path)
    assert str(error.value).startswith(f"{path}: not a table of cameras (")
    assert str(error.value).endswith("; write it with atbsn noise --cameras")


def test_a_file_that_is_missing_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: cannot be read \(.+\); write it with atbsn noise --cameras"):
        CameraTable.read_from(tmp_path / "none.json")
