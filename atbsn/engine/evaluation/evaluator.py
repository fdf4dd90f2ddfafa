"""Denoise and measure every picture of a set, and average over pictures. The number of processes changes nothing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from atbsn.data.base import ImageSet
from atbsn.engine.evaluation.panels import panel
from atbsn.engine.evaluation.residual import MEASURES, NotMeasurableError, ResidualMeter, centre, measure_residuals
from atbsn.metrics import Metric
from atbsn.pictures import Picture, to_tensor, write_picture
from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_text
from atbsn.utils.log import Heartbeat, logger, progress_bar
from atbsn.utils.prefetch import prefetch
from atbsn.utils.tables import format_csv

_GREY, _GAIN = 128.0, 4.0
"""What a denoiser removes is shown times ``_GAIN``, on the grey value ``_GREY``. Chosen by hand: noise of 2 grey
values is seen."""


class Column(Protocol):
    """A column of a table: a metric, or a measure that needs no reference."""

    @property
    def protocol(self) -> str:
        """How the number is computed, in words."""

    @property
    def higher_is_better(self) -> bool | None:
        """Whether higher or lower is better; None: neither, some value between is right."""

    @property
    def digits(self) -> int:
        """Digits after the decimal point in tables."""


Row = dict[str, Any]
"""The figures of one picture denoised by one method: ``index``, ``image``, ``method``, a value for each metric, and the
groups of the picture."""

Denoise = Callable[[Tensor], Mapping[str, Tensor]]
"""Maps (1, 3, H, W) in [0, 255] to one or more denoised versions of it, by label."""

OnPanel = Callable[[str, Mapping[str, np.ndarray]], None]
"""Called with the name of a picture and its versions, (H, W, 3) uint8 RGB, by caption."""


def evaluate(
    images: ImageSet,
    denoise: Denoise,
    metrics: Mapping[str, Metric],
    description: str,
    with_noisy: bool = False,
    num_panels: int = 0,
    on_panel: OnPanel | None = None,
    limit: int | None = None,
    meter: ResidualMeter | None = None,
    on_rows: Callable[[Sequence[Row]], None] | None = None,
) -> list[Row]:
    """Measure ``denoise`` on every picture of ``images``, shared between the processes.

    On a set with references, ``metrics`` are measured (or their versions for the set's number of channels). On a set
    without, measures of what the denoiser removes are taken (``MEASURES``). ``columns_of`` tells which.

    Args:
        images: the data set.
        denoise: the denoiser or denoisers.
        metrics: metrics by name.
        description: text for the progress bar.
        with_noisy: measure the noisy pictures too, as method "noisy".
        num_panels: number of pictures, from the first, that are given to ``on_panel``: noisy, denoised, and the
            reference or, without one, what was removed.
        on_panel: shows or saves them.
        limit: number of pictures to measure, spread over the set; None: all.
        meter: remembers the noise estimates of this set's pictures from one call to the next.
        on_rows: called with the rows of each picture when this process has measured it.

    Returns:
        The rows of all pictures, in the order of the set, on every process.

    Raises:
        UserError: the set has no references and no picture whose noise can be estimated.
    """
    chosen = spread(len(images), limit)
    shown = set(chosen[:num_panels])
    numbers = chosen[dist.rank() :: dist.world_size()]
    meter = ResidualMeter() if meter is None else meter
    metrics = suited(images, metrics)
    pairs = prefetch(
        lambda index: (index, images.read(index), images.read_clean(index) if images.has_clean else None), numbers
    )
    rows: list[Row] = []
    beat = Heartbeat(description, len(numbers), "pictures")
    for index, noisy, clean in progress_bar(pairs, description, total=len(numbers), unit="image"):
        before, key = len(rows), images.key(index)
        try:
            if clean is None:
                table, pictures = _without_reference(denoise, noisy, key, meter, with_noisy)
            else:
                table, pictures = _with_reference(denoise, noisy, clean, metrics, with_noisy)
        except NotMeasurableError as error:
            logger.warning("%s", error)
            beat.one_more()
            continue
        for label, values in table.items():
            rows.append({"index": index, "image": key, "method": label, **values, **images.groups(index)})
        if index in shown and on_panel is not None:
            on_panel(key, {caption: Picture(picture).rgb8() for caption, picture in pictures.items()})
        if on_rows is not None:
            on_rows(rows[before:])
        beat.one_more()
    gathered = [row for part in dist.gather(rows) for row in part]
    if not gathered:
        raise UserError(
            f"{type(images).__name__}: none of {len(chosen)} pictures can be measured without a reference; give larger "
            "ones that are not all black and white, or a set with references"
        )
    return sorted(gathered, key=lambda row: row["index"])


def columns_of(images: ImageSet, metrics: Mapping[str, Metric]) -> Mapping[str, Column]:
    """What ``evaluate`` measures on ``images``, by name: metrics if there are references, otherwise ``MEASURES``."""
    return suited(images, metrics) if images.has_clean else MEASURES


def suited(images: ImageSet, metrics: Mapping[str, Metric]) -> Mapping[str, Metric]:
    """``metrics``, by name, or their versions for the number of channels of ``images``."""
    if not images.has_clean:
        return metrics
    channels = images.read(0).rgb.shape[2]
    return {name: metric.suited(channels) for name, metric in metrics.items()}


def _with_reference(
    denoise: Denoise, noisy: Picture, clean: Picture, metrics: Mapping[str, Metric], with_noisy: bool
) -> tuple[dict[str, dict[str, float]], dict[str, np.ndarray]]:
    """The metrics of one picture by label, and the pictures of its panel by caption."""
    outputs = {label: _as_array(output[0]) for label, output in denoise(to_tensor(noisy.rgb)[None]).items()}
    reference = _as_array(to_tensor(clean.rgb))
    measured = {"noisy": _as_array(to_tensor(noisy.rgb)), **outputs} if with_noisy else outputs
    table = {label: {name: metric(output, reference) for name, metric in metrics.items()}
             for label, output in measured.items()}  # fmt: skip
    return table, {"noisy": noisy.rgb, **outputs, "reference": clean.rgb}


def _without_reference(
    denoise: Denoise, noisy: Picture, key: str, meter: ResidualMeter, with_noisy: bool
) -> tuple[dict[str, dict[str, float]], dict[str, np.ndarray]]:
    """The measures of one picture without a reference, by label, and the pictures of its panel by caption.

    Only the central part is measured. The panel shows what each result removed, times 4.

    Raises:
        NotMeasurableError: its noise cannot be estimated.
    """
    part = to_tensor(np.ascontiguousarray(centre(noisy.rgb)))
    noise = meter.noise_of(key, part)

    def all_of(picture: Tensor) -> dict[str, Tensor]:
        return {**({"noisy": picture} if with_noisy else {}), **denoise(picture)}

    outputs, residuals = measure_residuals(all_of, part[None], noise)
    table = {label: residual.values() for label, residual in residuals.items()}
    pictures = {"noisy": _as_array(part)}
    for label, output in outputs.items():
        if label != "noisy":
            pictures[label] = _as_array(output[0])
            pictures[f"{label}: taken off x {_GAIN:g}"] = _as_array(_GREY + _GAIN * (part - output[0]))
    return table, pictures


def spread(length: int, limit: int | None) -> list[int]:
    """``limit`` indices below ``length``, at equal distances; all indices if ``limit`` is None or larger."""
    count = length if limit is None else min(limit, length)
    return [position * length // count for position in range(count)]


def count_pictures(images: ImageSet, limit: int | None) -> str:
    """The number of pictures that are measured, in words for a title."""
    count = len(spread(len(images), limit))
    return f"{count} pictures" if count == len(images) else f"{count} of {len(images)} pictures"


def means(rows: Iterable[Row], metrics: Iterable[str]) -> dict[str, dict[str, float]]:
    """The mean over pictures of each metric, by method: ``{method: {metric: value}}``."""
    by_method: dict[str, list[Row]] = {}
    for row in rows:
        by_method.setdefault(row["method"], []).append(row)
    return {
        method: {name: float(np.mean([row[name] for row in part])) for name in metrics}
        for method, part in by_method.items()
    }


def format_means(table: Mapping[str, Mapping[str, float]], metrics: Mapping[str, Column]) -> str:
    """The table of means as text, with the protocol of every metric below it."""
    names = list(metrics)
    width = max([len(method) for method in table] + [8])
    lines = [f"{'':{width}} " + " ".join(f"{name:>12}" for name in names)]
    for method, values in table.items():
        lines.append(f"{method:{width}} " + " ".join(f"{values[name]:12.{metrics[name].digits}f}" for name in names))
    lines += [f"  {name}: {metric.protocol}" for name, metric in metrics.items()]
    return "\n".join(lines)


def write_rows(path: Path, rows: list[Row], metrics: Mapping[str, Column]) -> None:
    """Write one line for each picture and method as CSV. The header names the protocol of every metric."""
    if not rows or not dist.is_main():
        return
    lines = titled(rows, metrics)
    write_text(path, format_csv(lines[0], lines))


def titled(rows: Iterable[Row], metrics: Mapping[str, Column]) -> list[Row]:
    """``rows`` with the column titles of a file: metrics have their protocols added, and the index is left out."""
    titles = {name: f"{name} [{metric.protocol}]" for name, metric in metrics.items()}
    return [{titles.get(key, key): value for key, value in row.items() if key != "index"} for row in rows]


def panel_writer(folder: Path, side: int = 512, columns: int | None = None) -> OnPanel:
    """A function that saves panels as ``folder/<image>.png``; see ``panel``."""
    return lambda key, pictures: write_picture(folder / f"{key}.png", Picture(panel(pictures, side, columns)))


def _as_array(output: Tensor) -> np.ndarray:
    """(3, H, W) to (H, W, 3) float32, neither clipped nor rounded: each metric does that as its protocol says."""
    return output.permute(1, 2, 0).float().cpu().numpy()
