"""Validation of a denoiser on the sets of an option file, with or without references: ``atbsn valid``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from atbsn.data.base import ImageSet
from atbsn.engine.evaluation.checks import check_sets
from atbsn.engine.evaluation.evaluator import (
    Column,
    Denoise,
    Row,
    columns_of,
    count_pictures,
    evaluate,
    format_means,
    means,
    panel_writer,
    write_rows,
)
from atbsn.engine.evaluation.groups import format_groups, group_means, write_groups
from atbsn.engine.evaluation.results import MEANS, summarise, write_results
from atbsn.engine.inference.about import describe_denoiser
from atbsn.engine.inference.denoiser import Denoiser, check_channels
from atbsn.engine.provenance import commit, versions
from atbsn.metrics import ESTIMATED_PSNR, Metric
from atbsn.utils import dist
from atbsn.utils.files import cannot_write, write_text
from atbsn.utils.log import logger
from atbsn.utils.types import Hole


@dataclass(frozen=True)
class Measuring:
    """What is measured, for every set alike.

    Attributes:
        metrics: metrics by name, for sets with references.
        num_panels: number of pictures of each set that are shown as panels: noisy, denoised, and the reference or what
            was removed.
        limit: number of pictures of each set that are measured, spread over it; None: all.
    """

    metrics: Mapping[str, Metric]
    num_panels: int
    limit: int | None = None


def labelled(denoiser: Denoiser, ks: Sequence[Hole] | None = None) -> Denoise:
    """A function for ``evaluate``: the denoiser as it is, or with each of the blind spots ``ks``, in one pass.

    Raises:
        UserError: the network does not accept these blind spots.
    """
    if ks is None:
        return lambda noisy: {"denoised": denoiser(noisy)}
    family = denoiser.family(ks)
    return lambda noisy: dict(zip(labels_of(ks), family(noisy), strict=True))


def labels_of(ks: Sequence[Hole] | None) -> list[str]:
    """The labels of the results of ``labelled``."""
    return ["denoised"] if ks is None else ["mean" if k == "mean" else f"k={k}" for k in ks]


def validate_sets(
    denoiser: Denoiser,
    sets: Mapping[str, ImageSet],
    measuring: Measuring,
    ks: Sequence[Hole] | None,
    folder: Path,
    weights: str | Path | None = None,
) -> dict[str, list[Row]]:
    """Validate on every set, and measure the noisy pictures, too: tables in the log and as CSV, and panels.

    Args:
        denoiser: what is measured.
        sets: data sets by name.
        measuring: what is measured on them.
        ks: blind spots to compare, or None for the denoiser's own settings.
        folder: results go to ``folder/<set>``: ``metrics.csv`` for each picture; ``means.csv``; ``groups.csv`` for each
            scene, phone, ISO or other group of the set; ``panels/<image>.png``; and ``about.yml`` with weights and
            settings. Earlier results of other weights or settings are moved to ``archived_<time>``.
        weights: the file of the network's weights.

    Returns:
        The rows of every set, on every process.

    Raises:
        UserError: one of the sets cannot be measured. Then nothing is written or moved.
    """
    denoise = labelled(denoiser, ks)
    meters = check_sets(sets, measuring.metrics, measuring.limit, partial(check_channels, denoiser.net))
    about_weights = None if weights is None else str(weights)
    results = {}
    for name, images in sets.items():
        metrics = columns_of(images, measuring.metrics)
        about = describe(denoiser, metrics, measuring.limit, weights)
        about |= {"k": ks, "set": f"{name}: {type(images).__name__}"}
        dist.on_main(partial(_begin, folder / name, about))
        rows = evaluate(
            images, denoise, measuring.metrics, f"validate {name}", with_noisy=True, num_panels=measuring.num_panels,
            on_panel=panel_writer(folder / name / "panels"), limit=measuring.limit, meter=meters[name],
        )  # fmt: skip
        write_rows(folder / name / "metrics.csv", rows, metrics)
        holes = dict(zip(labels_of(ks), ks, strict=True)) if ks else {}
        own = {label: {"weights": about_weights, "k": holes.get(label)} for label in labels_of(ks)}
        dist.on_main(partial(write_results, folder / name / MEANS, summarise(rows, metrics, name, own)))
        table = means(rows, metrics)
        pictures = count_pictures(images, measuring.limit)
        logger.info("%s, mean of %s (each in %s):\n%s", name, pictures, folder / name, format_means(table, metrics))
        if not images.has_clean and len(table) > 2:
            best = max(table, key=lambda method: table[method][ESTIMATED_PSNR])
            logger.info("%s: the least error is estimated for %s", name, best)
        groups = group_means(rows, metrics)
        write_groups(folder / name / "groups.csv", groups, metrics)
        if groups:
            logger.info("%s, means of its groups:\n%s", name, format_groups(groups, metrics))
        results[name] = rows
    return results


def describe(
    denoiser: Denoiser, metrics: Mapping[str, Column], limit: int | None, weights: str | Path | None
) -> dict[str, Any]:
    """Describe how figures were made, in plain values: weights, settings, protocols, code and versions."""
    return {
        **describe_denoiser(denoiser, weights),
        "limit": limit,
        "metrics": {name: metric.protocol for name, metric in metrics.items()},
        "commit": commit(),
        "versions": versions(),
    }


def _begin(folder: Path, about: dict[str, Any]) -> None:
    """Write ``about.yml``. Results that were made with another one are moved to an archive first."""
    said, text = folder / "about.yml", yaml.safe_dump(about, sort_keys=False, width=110)
    names = ("metrics.csv", MEANS, "groups.csv", "about.yml", "panels")
    old = [folder / name for name in names if (folder / name).exists()]
    try:
        if old and not (said.is_file() and said.read_text(encoding="utf-8") == text):
            archive = folder / f"archived_{datetime.now():%Y%m%d_%H%M%S_%f}"
            archive.mkdir()
            for path in old:
                path.rename(archive / path.name)
            logger.info("%s: results of other weights, settings or code moved to %s", folder, archive.name)
    except OSError as error:
        raise cannot_write(folder, error) from error
    write_text(said, text)
