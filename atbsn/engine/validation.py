"""Validation of a method on the sets of an option file: during training, and by ``valid.py``."""

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from atbsn.data.base import ImageSet
from atbsn.engine.evaluator import Denoise, Row, evaluate, format_table, means, panel_writer, write_rows
from atbsn.engine.groups import format_groups, group_means, write_groups
from atbsn.engine.inference import run
from atbsn.engine.loggers import RunLogger
from atbsn.engine.optimization import autocast
from atbsn.engine.panels import panel
from atbsn.engine.tiling import Tiler
from atbsn.metrics import Metric
from atbsn.models.base import Model
from atbsn.options.schema import Precision
from atbsn.utils.errors import UserError
from atbsn.utils.image import Picture, write_picture
from atbsn.utils.log import logger


@dataclass(frozen=True)
class Protocol:
    """How pictures are validated: metrics, tiles and precision, the same for every set.

    Attributes:
        metrics: by name.
        tiler: how the network is laid over a picture.
        precision: type of the forward pass.
        num_panels: how many pictures a set are shown as noisy | denoised | reference.
    """

    metrics: Mapping[str, Metric]
    tiler: Tiler
    precision: Precision
    num_panels: int

    def denoise(self, model: Model, ks: list[int] | None = None) -> Denoise:
        """What ``evaluate`` calls: the method's own way, or every blind spot of ``ks`` in one feature pass."""
        if ks is None:
            return lambda noisy: {"denoised": self._run(lambda x, tiled: model.denoise(x, tiled=tiled), noisy)}
        if not model.net.blind_spots:
            raise UserError(f"k = {ks}: {type(model.net).__name__} has no blind spot to choose; leave k out")

        def family(noisy: Tensor) -> dict[str, Tensor]:
            outputs = self._run(lambda x, tiled: model.net.denoise_family(x, ks, tiled), noisy)
            return {f"k={k}": output for k, output in zip(ks, outputs, strict=True)}

        return family

    def _run(self, denoise: object, noisy: Tensor) -> Tensor:
        with autocast(self.precision, self.tiler.device):
            return run(denoise, noisy, self.tiler)


class TrainingValidation:
    """Called by the trainer: validates the weights and their average, logs, saves panels.

    Args:
        model: the method; ``model.net`` is swapped for the average while that is validated.
        sets: by the name of the options; the first one chooses ``net_best``.
        best_metric: name of the metric that chooses, or None.
        visualization: panels go to ``visualization/<image>/<iteration>.png``.
    """

    def __init__(
        self,
        model: Model,
        ema: AveragedModel | None,
        sets: Mapping[str, ImageSet],
        protocol: Protocol,
        best_metric: str | None,
        run_logger: RunLogger,
        visualization: Path,
        total_iter: int,
    ) -> None:
        self.model, self.ema, self.sets, self.protocol = model, ema, sets, protocol
        self.best_metric, self.run_logger, self.visualization = best_metric, run_logger, visualization
        self.total_iter = total_iter

    def __call__(self, iteration: int) -> float | None:
        """Validate; the value that chooses ``net_best`` (of the averaged weights where there are any)."""
        score = None
        for position, (name, images) in enumerate(self.sets.items()):
            values = self._validate(iteration, name, images, "net")
            if self.ema is not None:
                with _averaged(self.model, self.ema):
                    values = self._validate(iteration, name, images, "ema")
            if position == 0 and self.best_metric is not None:
                score = values[self.best_metric]
        return score

    def _validate(self, iteration: int, name: str, images: ImageSet, weights: str) -> dict[str, float]:
        def save_panel(key: str, pictures: Mapping[str, np.ndarray]) -> None:
            shown = panel(pictures)
            write_picture(self.visualization / key / f"{iteration}.png", Picture(shown))
            self.run_logger.log_panel(iteration, f"{name}/{key}", shown)

        metrics = self.protocol.metrics
        last = iteration == self.total_iter
        rows = evaluate(
            images, self.protocol.denoise(self.model), metrics, f"validate {name}", with_noisy=last,
            num_panels=self.protocol.num_panels, on_panel=save_panel,
        )  # fmt: skip
        table = means(rows, metrics)
        entries = [
            {"metric": metric, "value": value, "protocol": metrics[metric].protocol}
            for metric, value in table["denoised"].items()
        ]
        self.run_logger.log_metrics(iteration, name, weights, entries)
        if last:
            logger.info("%s (%s), mean of %d pictures:\n%s", name, weights, len(images), format_table(table, metrics))
        return table["denoised"]


def validate_sets(
    model: Model, sets: Mapping[str, ImageSet], protocol: Protocol, ks: list[int] | None, folder: Path
) -> dict[str, list[Row]]:
    """Validate on every set, beside the noisy input: tables on the console and as CSV, and panels.

    Args:
        ks: blind spots to compare, or None for the method's own way.
        folder: results go to ``folder/<set>``: ``metrics.csv`` a picture, ``groups.csv`` a scene, phone, ISO or what
            else the set tells, and ``panels/<image>.png``.

    Returns:
        The rows of every set, on every process.
    """
    denoise = protocol.denoise(model, ks)
    results = {}
    for name, images in sets.items():
        rows = evaluate(
            images, denoise, protocol.metrics, f"validate {name}", with_noisy=True,
            num_panels=protocol.num_panels, on_panel=panel_writer(folder / name / "panels"),
        )  # fmt: skip
        write_rows(folder / name / "metrics.csv", rows, protocol.metrics)
        table = format_table(means(rows, protocol.metrics), protocol.metrics)
        logger.info("%s, mean of %d pictures (each in %s):\n%s", name, len(images), folder / name, table)
        groups = group_means(rows, protocol.metrics)
        write_groups(folder / name / "groups.csv", groups, protocol.metrics)
        if groups:
            logger.info("%s, means of its groups:\n%s", name, format_groups(groups, protocol.metrics))
        results[name] = rows
    return results


@contextmanager
def _averaged(model: Model, ema: AveragedModel):
    own, model.net = model.net, ema.module
    try:
        with torch.no_grad():
            yield
    finally:
        model.net = own
