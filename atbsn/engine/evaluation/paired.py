"""Whether one method is better than another on the same pictures: differences by picture, with their uncertainty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from atbsn.engine.evaluation.evaluator import Column, Row

CONFIDENCE = 0.95
"""Level of the confidence intervals: the usual one."""
_RESAMPLES = 9999
"""Resamplings of the bootstrap: SciPy's default, at which the ends of the interval move by a hundredth of its
length."""


@dataclass(frozen=True)
class Difference:
    """A method against the best one of a metric, over the pictures on which both have a finite value.

    Attributes:
        metric: its name.
        method: its label.
        best: label of the method whose mean is best; the noisy pictures are never it.
        num_pictures: that both were measured on.
        mean: of method - best.
        low, high: the bootstrap's interval of that mean (BCa; Efron and Tibshirani, 1993), of ``CONFIDENCE``.
        p: of Wilcoxon's signed-rank test, two-sided: how often chance alone makes differences as one-sided as these.
    """

    metric: str
    method: str
    best: str
    num_pictures: int
    mean: float
    low: float
    high: float
    p: float


def differences(rows: Sequence[Row], metrics: Mapping[str, Column]) -> list[Difference]:
    """Every method against the best one, metric by metric; nothing of metrics of which neither way is better.

    Pictures count as independent. Crops of one photograph are not: their intervals are too short.
    """
    found = []
    for name, metric in metrics.items():
        values: dict[str, dict[int, float]] = {}
        for row in rows:
            if np.isfinite(row[name]):
                values.setdefault(row["method"], {})[row["index"]] = row[name]
        sign = 0 if metric.higher_is_better is None else 1 if metric.higher_is_better else -1
        rivals = {
            label: sign * float(np.mean(list(each.values()))) for label, each in values.items() if label != "noisy"
        }
        if not sign or not rivals:
            continue
        best = max(rivals, key=lambda label: rivals[label])
        for method, each in values.items():
            shared = sorted(each.keys() & values[best].keys())
            if method != best and len(shared) > 1:
                found.append(_difference(name, method, best, [each[index] - values[best][index] for index in shared]))
    return found


def _difference(metric: str, method: str, best: str, each: list[float]) -> Difference:
    values = np.array(each)
    mean = float(values.mean())
    if np.ptp(values) == 0:  # the same everywhere: there is nothing to resample
        p = 1.0 if mean == 0 else float(stats.wilcoxon(values).pvalue)
        return Difference(metric, method, best, len(each), mean, mean, mean, p)
    interval = stats.bootstrap(
        (values,), np.mean, n_resamples=_RESAMPLES, confidence_level=CONFIDENCE, random_state=np.random.default_rng(0)
    ).confidence_interval
    p = float(stats.wilcoxon(values).pvalue)
    return Difference(metric, method, best, len(each), mean, float(interval.low), float(interval.high), p)


def as_rows(found: Sequence[Difference]) -> list[dict[str, Any]]:
    """The row of a CSV file, with numbers in full."""
    return [
        {
            "metric": each.metric, "method": each.method, "best": each.best, "pictures": each.num_pictures,
            "method - best": each.mean, "low": each.low, "high": each.high, "Wilcoxon p": each.p,
        }
        for each in found
    ]  # fmt: skip


def as_markdown(found: Sequence[Difference]) -> list[str]:
    """Lines of a table for people, with what stands in it; none of nothing."""
    if not found:
        return []
    lines = [
        "",
        f"Each method less the best one on the same pictures: mean difference, the bootstrap's {CONFIDENCE:.0%} "
        "interval, p of Wilcoxon's signed-rank test. Pictures count as independent; crops of one photograph are not.",
        "",
        "| metric | method | best | pictures | difference | interval | p |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in found:
        digits = 2 if abs(each.mean) >= 1 or max(abs(each.low), abs(each.high)) >= 1 else 4
        interval = f"{each.low:+.{digits}f} to {each.high:+.{digits}f}"
        cells = (each.metric, each.method, each.best, each.num_pictures, f"{each.mean:+.{digits}f}", interval)
        lines.append(f"| {' | '.join(map(str, cells))} | {each.p:.2g} |")
    return lines
