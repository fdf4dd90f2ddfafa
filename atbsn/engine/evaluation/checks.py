"""Check data sets before anything is measured or written."""

from collections.abc import Callable, Mapping

import numpy as np

from atbsn.data.base import ImageSet
from atbsn.engine.evaluation.evaluator import spread
from atbsn.engine.evaluation.residual import NotMeasurableError, ResidualMeter, centre
from atbsn.metrics import Metric
from atbsn.pictures import to_tensor
from atbsn.utils.errors import UserError

CheckChannels = Callable[[int], None]
"""Raises a ``UserError`` if pictures with the given number of channels cannot be denoised."""


def check_sets(
    sets: Mapping[str, ImageSet],
    metrics: Mapping[str, Metric],
    limit: int | None = None,
    check_channels: CheckChannels | None = None,
) -> dict[str, ResidualMeter]:
    """Check that every set can be measured: the sizes of all pictures and references, and the pixels of the first.

    Args:
        sets: data sets by name.
        metrics: metrics by name.
        limit: number of pictures that are measured, spread over the set; None: all.
        check_channels: checks that pictures with this number of channels can be denoised.

    Returns:
        A meter for each set, which remembers the noise estimates that were made.

    Raises:
        UserError: some sets cannot be measured; the message has a line for each of them.
    """
    meters, faults = {name: ResidualMeter() for name in sets}, []
    for name, images in sets.items():
        try:
            _check_set(images, metrics, spread(len(images), limit), meters[name], check_channels)
        except UserError as error:
            faults.append(f"datasets.{name}: {error}")
    if faults:
        raise UserError("\n".join(faults))
    return meters


def _check_set(
    images: ImageSet,
    metrics: Mapping[str, Metric],
    chosen: list[int],
    meter: ResidualMeter,
    check_channels: CheckChannels | None,
) -> None:
    first = images.read(chosen[0])
    channels = first.rgb.shape[2]
    if check_channels is not None:
        check_channels(channels)
    if not images.has_clean:
        _check_measurable(images, chosen, meter)
        return
    for index in chosen:
        size, clean_size = images.size(index), images.clean_size(index)
        if size != clean_size:
            raise UserError(
                f"{images.key(index)}: the picture has {_text(size)} pixels, its reference {_text(clean_size)}; "
                "a pair must have one size"
            )
        for metric_name, metric in metrics.items():
            try:
                metric.suited(channels).check_size(*size, channels)
            except UserError as error:
                raise UserError(f"{images.key(index)}, val.metrics.{metric_name}: {error}") from None


def _check_measurable(images: ImageSet, chosen: list[int], meter: ResidualMeter) -> None:
    """Check that the noise of at least one picture can be estimated. Usually the first one suffices."""
    fault = ""
    for index in chosen:
        try:
            meter.noise_of(images.key(index), to_tensor(np.ascontiguousarray(centre(images.read(index).rgb))))
        except NotMeasurableError as error:
            fault = fault or str(error)
        else:
            return
    raise UserError(
        f"{type(images).__name__}: none of {len(chosen)} pictures can be measured without a reference ({fault}); give "
        "larger ones that are not all black and white, or a set with references"
    )


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
