"""Validation of a denoiser on the sets of an option file: ``valid.py``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from atbsn.data.base import ImageSet
from atbsn.engine.evaluation.evaluator import Denoise, Row, evaluate, format_table, means, panel_writer, write_rows
from atbsn.engine.evaluation.groups import format_groups, group_means, write_groups
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.metrics import Metric
from atbsn.utils.log import logger


@dataclass(frozen=True)
class Measuring:
    """What is measured, the same for every set.

    Attributes:
        metrics: by name.
        num_panels: how many pictures a set are shown as noisy | denoised | reference.
    """

    metrics: Mapping[str, Metric]
    num_panels: int


def labelled(denoiser: Denoiser, ks: list[int] | None = None) -> Denoise:
    """What ``evaluate`` calls: the denoiser as it is, or with every blind spot of ``ks`` in one pass.

    Raises:
        UserError: the network does not take these blind spots.
    """
    if ks is None:
        return lambda noisy, key: {"denoised": denoiser(noisy, key)}
    family = denoiser.family(ks)

    def denoise(noisy: Tensor, key: str) -> dict[str, Tensor]:
        return {f"k={k}": output for k, output in zip(ks, family(noisy, key), strict=True)}

    return denoise


def validate_sets(
    denoiser: Denoiser, sets: Mapping[str, ImageSet], measuring: Measuring, ks: list[int] | None, folder: Path
) -> dict[str, list[Row]]:
    """Validate on every set, beside the noisy input: tables on the console and as CSV, and panels.

    Args:
        ks: blind spots to compare, or None for the denoiser's own settings.
        folder: results go to ``folder/<set>``: ``metrics.csv`` a picture, ``groups.csv`` a scene, phone, ISO or what
            else the set tells, and ``panels/<image>.png``.

    Returns:
        The rows of every set, on every process.
    """
    denoise, metrics = labelled(denoiser, ks), measuring.metrics
    results = {}
    for name, images in sets.items():
        rows = evaluate(
            images, denoise, metrics, f"validate {name}", with_noisy=True,
            num_panels=measuring.num_panels, on_panel=panel_writer(folder / name / "panels"),
        )  # fmt: skip
        write_rows(folder / name / "metrics.csv", rows, metrics)
        table = format_table(means(rows, metrics), metrics)
        logger.info("%s, mean of %d pictures (each in %s):\n%s", name, len(images), folder / name, table)
        groups = group_means(rows, metrics)
        write_groups(folder / name / "groups.csv", groups, metrics)
        if groups:
            logger.info("%s, means of its groups:\n%s", name, format_groups(groups, metrics))
        results[name] = rows
    return results
