"""What stands around every network: strength, luma and colour, repairs, the size of the noise."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import atbsn
from atbsn.archs import build_arch
from atbsn.engine.inference.finish import denoises_twice, finish, is_local, leaves_pictures_alone, strengths
from atbsn.engine.inference.photo import takes_setting
from atbsn.ops.defects import remove_banding, replace_hot_pixels
from atbsn.ops.luma import scale_apart

NOISE = 10.0


def halve(x: torch.Tensor) -> torch.Tensor:
    """A denoiser of a grey picture of 100 that leaves half of the noise in."""
    return 100 + (x - 100) / 2


@pytest.fixture
def noisy() -> torch.Tensor:
    return 100 + NOISE * torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def test_more_strength_takes_more_off_and_never_turns_it_round(noisy: torch.Tensor) -> None:
    left = [
        float(((finish(halve, noisy, strength=float(s)) - 100) * (noisy - 100)).mean() / (noisy - 100).square().mean())
        for s in np.linspace(0, 2, 21)
    ]
    assert left == sorted(left, reverse=True)
    assert [left[0], left[5], left[10], left[15], left[20]] == pytest.approx([1, 0.75, 0.5, 0.375, 0.25], abs=1e-4)


@pytest.mark.parametrize(("luma", "colour"), [(0, 1), (1, 0), (0.3, 0.8), (1.5, 0.2), (0, 2), (2, 1)])
def test_luma_and_colour_have_strengths_of_their_own(noisy: torch.Tensor, luma: float, colour: float) -> None:
    result = finish(halve, noisy, luma=luma, colour=colour)
    for part, strength in (((1, 0), luma), ((0, 1), colour)):
        own = scale_apart(finish(halve, noisy, strength=float(strength)) - noisy, *part)
        torch.testing.assert_close(scale_apart(result - noisy, *part), own, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["strength", "luma", "colour"])
@pytest.mark.parametrize(("value", "taken"), [(-0.01, False), (0, True), (0.5, True), (2, True), (2.01, False)])
def test_a_strength_is_from_nothing_to_twice(name: str, value: float, taken: bool) -> None:
    assert takes_setting(build_arch({"type": "StudentA"}), name, value) == taken


def test_one_of_them_leaves_the_other_to_strength(noisy: torch.Tensor) -> None:
    assert strengths({"strength": 0.5, "luma": 0.2}) == (0.2, 0.5)
    assert strengths({"colour": 0}) == (1.0, 0)
    some = finish(halve, noisy, strength=0.5, colour=0.1)
    torch.testing.assert_close(some, finish(halve, noisy, luma=0.5, colour=0.1))


@pytest.mark.parametrize(
    "settings", [{"strength": 0}, {"luma": 0, "colour": 0}, {"strength": 2, "luma": 0, "colour": 0}]
)
def test_nothing_taken_off_is_the_picture_itself(settings: dict[str, Any]) -> None:
    net = build_arch({"type": "StudentA"}).eval()
    image = np.random.default_rng(0).integers(0, 2**16, (9, 11, 3), dtype=np.uint16)
    assert np.array_equal(atbsn.denoise(net, image, **settings), image)
    assert leaves_pictures_alone(settings)


def test_repairs_come_first_and_whole() -> None:
    flat = torch.full((1, 3, 64, 400), 90.0)
    picture = flat + 3 * torch.randn(1, 3, 64, 1, generator=torch.Generator().manual_seed(0))
    picture[0, 0, 30, 30] = 250
    repaired = remove_banding(replace_hot_pixels(picture))
    assert (repaired - flat).abs().max() < 5
    for strength in (0.0, 0.5):
        result = finish(lambda x: x, picture, strength=strength, hot_pixels=True, banding=True)
        torch.testing.assert_close(result, repaired)
    assert not leaves_pictures_alone({"strength": 0, "hot_pixels": True})
    assert not leaves_pictures_alone({"strength": 0, "banding": True})


def test_enlarged_noise_is_taken_off_at_its_size(noisy: torch.Tensor) -> None:
    def average(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(F.pad(x, (3, 3, 3, 3), mode="reflect"), 7, 1)

    large = F.interpolate(noisy, scale_factor=4, mode="bicubic", align_corners=False)
    plain, enlarged = ((finish(average, large, enlarged=n) - 100)[..., 20:-20, 20:-20].std() for n in (1, 4))
    assert plain > 0.4 * NOISE and enlarged < 0.25 * NOISE


@pytest.mark.parametrize(
    ("settings", "local"),
    [
        ({}, True),
        ({"strength": 0.5, "luma": 1, "detail": 0, "hot_pixels": False, "banding": False, "enlarged": 1}, True),
        ({"strength": 1.2}, False),
        ({"colour": 1.2}, False),
        ({"detail": "auto"}, False),
        ({"hot_pixels": True}, False),
        ({"banding": True}, False),
        ({"enlarged": 2}, False),
    ],
)
def test_what_sees_the_whole_picture(settings: dict[str, Any], local: bool) -> None:
    assert is_local(settings) == local
    assert denoises_twice(settings) == (max(strengths(settings)) > 1)
