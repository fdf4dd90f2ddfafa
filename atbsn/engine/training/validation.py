"""Validation during training: measures the weights and their average, logs the results and saves panels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel

from atbsn.archs.base import Network
from atbsn.data.base import ImageSet
from atbsn.engine.evaluation.evaluator import columns_of, count_pictures, evaluate, format_means, means
from atbsn.engine.evaluation.panels import panel
from atbsn.engine.evaluation.residual import ResidualMeter
from atbsn.engine.evaluation.results import summarise
from atbsn.engine.evaluation.validation import Measuring, labelled
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.training.loggers import RunLogger
from atbsn.pictures import Picture, write_picture
from atbsn.utils.log import logger
from atbsn.utils.types import Hole


class TrainingValidation:
    """``validation(iteration)`` measures the weights and their average, logs the results and saves panels.

    Args:
        denoiser: the denoiser with the network that is trained.
        ema: the average of its weights, which is validated too; None: there is none.
        sets: data sets by name; the first one chooses ``net_best``.
        measuring: what is measured.
        best_metric: name of the metric that chooses ``net_best``; None: nothing is chosen.
        run_logger: logs the results.
        visualization: panels go to ``visualization/<image>/<iteration>.png``.
        total_iter: number of iterations; at the last one the noisy pictures are measured, too.
        ks: blind spots to compare, in one feature pass; the first one chooses ``net_best``. None: the denoiser's own.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        ema: AveragedModel | None,
        sets: Mapping[str, ImageSet],
        measuring: Measuring,
        best_metric: str | None,
        run_logger: RunLogger,
        visualization: Path,
        total_iter: int,
        ks: Sequence[Hole] | None = None,
    ) -> None:
        self.denoiser, self.ema, self.sets, self.measuring = denoiser, ema, sets, measuring
        self.best_metric, self.run_logger, self.visualization = best_metric, run_logger, visualization
        self.total_iter, self.ks = total_iter, ks
        self.meters = {name: ResidualMeter() for name in sets}

    def __call__(self, iteration: int) -> float | None:
        """Validate; returns the value that chooses ``net_best``, of the averaged weights if there are any.

        The random generators of the training are not changed.
        """
        device = self.denoiser.device
        score = None
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            for position, (name, images) in enumerate(self.sets.items()):
                values = self._validate(iteration, name, images, "net", self.denoiser)
                if self.ema is not None:
                    averaged = self.denoiser.of(cast(Network, self.ema.module).eval())
                    values = self._validate(iteration, name, images, "ema", averaged)
                if position == 0 and self.best_metric is not None:
                    score = values[self.best_metric]
        return score

    def _validate(
        self, iteration: int, name: str, images: ImageSet, weights: str, denoiser: Denoiser
    ) -> dict[str, float]:
        def save_panel(key: str, pictures: Mapping[str, np.ndarray]) -> None:
            shown = panel(pictures)
            write_picture(self.visualization / key / f"{iteration}.png", Picture(shown))
            self.run_logger.log_panel(iteration, f"{name}/{key}", shown)

        metrics = columns_of(images, self.measuring.metrics)
        last = iteration == self.total_iter
        rows = evaluate(
            images, labelled(denoiser, self.ks), self.measuring.metrics, f"validate {name}", with_noisy=last,
            num_panels=self.measuring.num_panels, on_panel=save_panel, limit=self.measuring.limit,
            meter=self.meters[name],
        )  # fmt: skip
        table = means(rows, metrics)
        labels = [label for label in table if label != "noisy"]
        own = [each for each in summarise(rows, metrics, name, {}) if each.method != "noisy"]
        named = [replace(r, method=weights if self.ks is None else f"{weights} {r.method}") for r in own]
        self.run_logger.log_metrics(iteration, named)
        if last:
            pictures = count_pictures(images, self.measuring.limit)
            logger.info("%s (%s), mean of %s:\n%s", name, weights, pictures, format_means(table, metrics))
        return table[labels[0]]
