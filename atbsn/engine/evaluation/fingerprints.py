"""Fingerprints of noise: of pairs of pictures, of an estimated noise model, and of cameras that a training draws."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from atbsn.data.paired import PairedFolder
from atbsn.noise import NoiseModel
from atbsn.noise.camera import RandomCamera
from atbsn.noise.fingerprint import BANDS, Fingerprint
from atbsn.noise.prior import CameraPrior
from atbsn.options.files import find_option_file
from atbsn.options.load import read_options
from atbsn.pictures import read_picture, to_tensor
from atbsn.registry.build import check_arguments
from atbsn.utils.errors import UserError

_SIDE, _BATCH, _BATCHES = 256, 8, 8
"""Side in pixels of the pictures to which drawn noise is added, pictures in a batch, and number of batches. Chosen by
hand."""
_MULTIPLE = 16
"""Pixels: ``RandomCamera`` takes pictures whose height and width are multiples of this number."""


def of_pairs(noisy: Path, clean: Path) -> Fingerprint:
    """Measure the differences between the pictures of two folders, matched by name.

    Raises:
        UserError: a picture has no partner, or there are no pictures.
    """
    pairs = PairedFolder(noisy, dataroot_clean=clean)

    def differences() -> Iterator[tuple[Tensor, Tensor]]:
        for index in range(len(pairs)):
            reference = to_tensor(pairs.read_clean(index).rgb)
            yield to_tensor(pairs.read(index).rgb) - reference, reference

    return _of(differences(), str(noisy))


def of_model(model: NoiseModel, seed: int = 0) -> Fingerprint:
    """Measure noise drawn from ``model`` on pictures of all intensities."""
    generator = torch.Generator().manual_seed(seed)
    pictures = _ramps()
    return Fingerprint.of((model.sample(pictures, generator), pictures) for _ in range(_BATCHES))


def of_prior(prior: CameraPrior, pictures: Iterable[Path] = (), seed: int = 0) -> Fingerprint:
    """Measure the noise that cameras drawn from ``prior`` add to ``pictures``; without pictures, to a grey ramp.

    Raises:
        UserError: a picture cannot be read, or is smaller than 64 x 64 pixels.
    """
    camera = RandomCamera(prior)

    def taken() -> Iterator[tuple[Tensor, Tensor]]:
        found = False
        for path in pictures:
            found = True
            rgb = to_tensor(read_picture(path).rgb)
            height, width = (side // _MULTIPLE * _MULTIPLE for side in rgb.shape[1:])
            noisy, clean = camera(rgb[None, :, :height, :width].contiguous())
            yield noisy - clean, clean
        if not found:
            for _ in range(_BATCHES):
                noisy, clean = camera(_ramps())
                yield noisy - clean, clean

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _of(taken(), "the cameras drawn at random")


def prior_of(source: str) -> CameraPrior:
    """The prior called ``default``, or that of ``model.camera`` in an option file.

    Raises:
        UserError: the file cannot be read, or ``model.camera`` has unknown or wrong values.
    """
    if source == "default":
        return CameraPrior()
    model = read_options(find_option_file(source)).get("model")
    camera = model.get("camera", {}) if isinstance(model, dict) else {}
    return check_arguments(_taking_a_camera, {"camera": camera}).get("camera", CameraPrior())


def table(columns: dict[str, Fingerprint]) -> str:
    """A table of fingerprints as text: a column for each fingerprint, a row for each statistic."""
    edges = [*(f"{edge:g}" for edge in BANDS), ""]
    bands = [f"from {low} to {high}" if high else f"above {low}" for low, high in pairwise(edges)]
    rows = [
        *(("level " + name, "level", place, "{:.1f}") for place, name in enumerate("RGB")),
        *(("correlation along rows " + name, "along", place, "{:.2f}") for place, name in enumerate("RGB")),
        *(("down columns " + name, "down", place, "{:.2f}") for place, name in enumerate("RGB")),
        *(("across the corner " + name, "diagonal", place, "{:.2f}") for place, name in enumerate("RGB")),
        *(("between " + name, "channels", place, "{:.2f}") for place, name in enumerate(("R, G", "G, B", "R, B"))),
        *((f"power {band} cycles a pixel", "power", place, "{:.1%}") for place, band in enumerate(bands)),
        *((f"level from {32 * place} to {32 * place + 31}", "by_intensity", place, "{:.1f}") for place in range(8)),
    ]
    lines = [["", *columns]]
    for title, field, place, form in rows:
        values = [getattr(found, field)[place] for found in columns.values()]
        lines.append([title, *("-" if value != value else form.format(value) for value in values)])
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def _taking_a_camera(camera: CameraPrior = CameraPrior()) -> None:  # noqa: B008 (frozen)
    """A signature for ``check_arguments``: it turns a mapping into a ``CameraPrior`` and checks it."""
    del camera


def _ramps() -> Tensor:
    """(8, 3, 256, 256): grey from black to white along each row."""
    return torch.linspace(0, 255, _SIDE).expand(_BATCH, 3, _SIDE, _SIDE).contiguous()


def _of(pairs: Iterable[tuple[Tensor, Tensor]], name: str) -> Fingerprint:
    try:
        return Fingerprint.of(pairs)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
