"""The judge of weights, which knows no clean picture."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.scenes import scene, taken

from atbsn.archs.base import Network
from atbsn.engine.evaluation.judgement import MIN_PICTURES, judge
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.noise import estimate
from atbsn.pictures import to_tensor
from atbsn.utils.budget import TimeBudget


class Box(Network):
    """Mixes its input with its mean over so many pixels square."""

    def __init__(self, side: int, part: float = 1.0) -> None:
        super().__init__()
        self.side, self.part = side, part
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        mean = torch.nn.functional.avg_pool2d(noisy, self.side, 1, self.side // 2, count_include_pad=False)
        return noisy.lerp(mean, self.part)


def judged(picture: np.ndarray, noise: Any, *nets: Any, **keywords: Any) -> list[Any]:
    return judge([photo_denoiser(net) for net in nets], [to_tensor(picture)], noise, **keywords)


def test_the_judge_knows_which_denoiser_is_right() -> None:
    noisy = taken(scene(), 12)
    nothing, right, blur = judged(noisy, estimate([noisy]), Box(1), Box(3, 0.5), Box(9))
    assert right.fault(nothing) is None and right.fault(blur) is None
    assert nothing.fault(right) == "error"
    assert nothing.mean("level") == 0 and nothing.mean("lag1") == 0 and blur.mean("level") > 1 > right.mean("level")
    assert judged(noisy, estimate([noisy]), Box(1), Box(3, 0.5), Box(9))[1] == right  # the same noise is drawn again


def test_how_much_detail_may_be_lost() -> None:
    """A tenth of a dB: 10^0.01 = 1.0233 times the error."""
    noisy = taken(scene(), 12)
    better, worse = judged(noisy, estimate([noisy]), Box(3, 0.5), Box(1))
    for factor, fault in ((1.02, None), (1.03, "detail")):
        changed = replace(better, detail_errors=tuple(factor * each for each in worse.detail_errors))
        assert changed.fault(worse) == fault
    assert replace(better, residuals=worse.residuals).fault(worse) == "error"  # an equal error is not better


def test_texture_is_not_smoothed_away() -> None:
    """A blur looks right on noise that is drawn on its own output, but not on the picture made smaller."""
    rng = np.random.default_rng(0)
    texture = np.clip(128 + 25 * rng.standard_normal((256, 256, 3)), 0, 255).astype(np.uint8)
    blur, nothing = judged(texture, estimate([taken(scene(), 9)]), Box(3), Box(1))
    assert blur.detail_error > 1.1 * nothing.detail_error and blur.fault(nothing) is not None


def test_a_spent_budget_leaves_the_least_that_tells() -> None:
    noisy = taken(scene(96, 96), 12)
    crops = [to_tensor(noisy)] * 5
    (all_of_them,) = judge([photo_denoiser(Box(3))], crops, estimate([noisy]))
    (few,) = judge([photo_denoiser(Box(3))], crops, estimate([noisy]), TimeBudget(0))
    assert len(all_of_them.residuals) == 5 and len(few.residuals) == len(few.detail_errors) == MIN_PICTURES


@pytest.mark.parametrize("shift", [0.0, 9.0])
def test_a_shift_of_colour_is_no_lost_detail(shift: float) -> None:
    noisy = taken(scene(128, 128), 12)

    class Shifted(Box):
        def forward(self, noisy: torch.Tensor) -> torch.Tensor:
            return super().forward(noisy) + shift

    plain, shifted = judged(noisy, estimate([noisy]), Box(3), Shifted(3))
    assert shifted.detail_error == pytest.approx(plain.detail_error, rel=0.01)
