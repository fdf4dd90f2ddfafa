"""Paired differences: means, intervals that hold the truth as often as they say, and tests that see one-sidedness."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from atbsn.engine.evaluation.paired import as_markdown, differences
from atbsn.engine.evaluation.residual import Measure

METRICS = {"psnr": Measure("psnr", True), "lpips": Measure("lpips", False)}


def rows(**methods: Any) -> list[dict[str, Any]]:
    """Rows from {method: values}, the same for both metrics."""
    return [
        {"index": index, "image": str(index), "method": method, "psnr": value, "lpips": value}
        for method, values in methods.items()
        for index, value in enumerate(values)
    ]


def test_each_method_is_held_against_the_best() -> None:
    found = differences(rows(noisy=[9, 9, 9.5], a=[1, 2, 4], b=[2, 4, 5]), METRICS)
    assert [(each.metric, each.method, each.best) for each in found] == [
        ("psnr", "noisy", "b"), ("psnr", "a", "b"), ("lpips", "noisy", "a"), ("lpips", "b", "a"),
    ]  # fmt: skip
    a = found[1]
    assert a.num_pictures == 3 and a.mean == pytest.approx(-4 / 3) and a.low <= a.mean <= a.high < 0
    assert a.p == stats.wilcoxon([-1, -2, -1]).pvalue


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(60):
        values = rng.normal(0.3, 1, 30)
        (found,) = differences(rows(a=100 + values, b=np.full(30, 200.0)), {"psnr": METRICS["psnr"]})
        held += found.low <= 0.3 - 100 <= found.high
    assert held >= 50  # of 60 at 95 %


def test_pictures_without_a_finite_value_are_left_out() -> None:
    found = differences(rows(a=[1.0, np.inf, 3.0], b=[2.0, 5.0, 4.5]), {"psnr": METRICS["psnr"]})
    assert found[0].num_pictures == 2 and found[0].mean == pytest.approx(-1.25)
    assert differences(rows(a=[1.0], b=[2.0]), METRICS) == []  # one picture tells no spread
    assert as_markdown([]) == []


def test_the_same_everywhere() -> None:
    (found,) = differences(rows(a=[1.0, 2.0, 3.0], b=[1.0, 2.0, 3.0]), {"psnr": METRICS["psnr"]})
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)
    (found,) = differences(rows(a=[1.0] * 6, b=[2.0] * 6), {"psnr": METRICS["psnr"]})
    assert (found.low, found.high) == (-1, -1) and found.p == pytest.approx(1 / 32)
