"""Test whether one method is better than another on the same pictures: mean differences with their uncertainty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from atbsn.engine.evaluation.evaluator import Column, Row

CONFIDENCE = 0.95
"""Level of the confidence intervals: the usual choice."""
_RESAMPLES = 9999
"""Number of bootstrap samples: SciPy's default. With it, the ends of the interval vary by a hundredth of its length."""


@dataclass(frozen=True)
class Difference:
    """A method compared with the best method by one metric, over the pictures on which both have a finite value.

    Attributes:
        metric: name of the metric.
        method: label of the method.
        best: label of the method with the best mean; never the noisy pictures.
        num_pictures: number of pictures on which both were measured.
        mean: mean of method - best.
        low, high: bootstrap confidence interval of that mean (BCa; Efron and Tibshirani, 1993), level ``CONFIDENCE``.
        p: p-value of Wilcoxon's two-sided signed-rank test: how often chance alone makes differences as one-sided.
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
    """Compare every method with the best one, for each metric of which higher or lower values are better.

    Pictures are taken as independent. Crops of one photograph are not; for them the intervals are too short.
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
    """The rows of a CSV file, with all digits."""
    return [
        {
            "metric": each.metric, "method": each.method, "best": each.best, "pictures": each.num_pictures,
            "method - best": each.mean, "low": each.low, "high": each.high, "Wilcoxon p": each.p,
        }
        for each in found
    ]  # fmt: skip


def as_markdown(found: Sequence[Difference]) -> list[str]:
    """The lines of a Markdown table with its explanation; empty if nothing was ``found``."""
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
