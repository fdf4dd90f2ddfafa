"""``atbsn noise``: measure the noise of pictures, compare it with a prior of cameras, and find similar cameras."""

from argparse import Namespace
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import numpy as np

from atbsn.engine.evaluation.camera_search import cameras_of_pictures
from atbsn.engine.evaluation.fingerprints import of_model, of_pairs, of_prior, prior_of, table
from atbsn.noise import NoiseModel, describe_noise, estimate, plot
from atbsn.pictures import image_paths, read_picture
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger

_FIGURES = (".png", ".pdf", ".svg")
"""Suffixes of the figures that are written."""


def main(arguments: Namespace) -> None:
    if arguments.output and arguments.output.suffix.lower() not in _FIGURES:
        raise UserError(f"--output: {arguments.output}: a figure is written as {', '.join(_FIGURES)}")
    if arguments.output and (arguments.clean or not arguments.input):
        raise UserError("--output: draws the noise estimated from noisy pictures; name these, and no --clean")
    if arguments.clean and not arguments.input:
        raise UserError("--clean: name the folder of their noisy pictures, too")
    if arguments.cameras:
        write_cameras(arguments)
        return
    if arguments.weights:
        raise UserError("--weights: cleans the pictures for --cameras; name the file to write there, too")
    if not arguments.input and not arguments.prior:
        raise UserError("nothing to look at: name a picture or a folder, or --prior default")
    columns = {}
    if arguments.clean:
        columns[str(arguments.input)] = of_pairs(arguments.input, arguments.clean)
    elif arguments.input:
        model = _estimated(arguments.input)
        columns[str(arguments.input)] = of_model(model)
        if arguments.output:
            write_figure(model, arguments.output)
    for source in arguments.prior:
        pictures = image_paths(arguments.clean) if arguments.clean else ()
        columns[f"prior {Path(source).stem}"] = of_prior(prior_of(source), pictures)
    print(table(columns))


def write_cameras(arguments: Namespace) -> None:
    """Write the table of cameras whose noise is like that of the pictures.

    Raises:
        UserError: there are no pictures, the suffix is wrong, a picture has fewer than 64 pixels a side, or all are
            saturated.
    """
    if not arguments.input or arguments.output:
        raise UserError("--cameras: name the noisy pictures, and no --output")
    if arguments.clean and arguments.weights:
        raise UserError("--weights: cleans the pictures where there are no references; name it or --clean")
    if arguments.cameras.suffix.lower() != ".json":
        raise UserError(f"--cameras: {arguments.cameras}: the table is written as .json")
    prior = prior_of(arguments.prior[0] if arguments.prior else "default")
    found = cameras_of_pictures(arguments.input, arguments.clean, arguments.weights or "real", prior, arguments.most)
    found.write(arguments.cameras)
    logger.info("%s: %d cameras", arguments.cameras, len(found))


def _estimated(root: Path) -> NoiseModel:
    """The noise model of all pictures in ``root``. If it has several folders, the model of each is logged, too."""
    paths = image_paths(root)
    parts = groups(paths, root)
    if len(parts) > 1:
        for name, members in parts.items():
            logger.info("%s: %s", name, summary(members))
    model = estimate(pictures(paths))
    logger.info("%s (%d): %s", root, len(paths), describe_noise(model))
    return model


def groups(paths: list[Path], root: Path) -> dict[str, list[Path]]:
    """The pictures by the first folder below ``root``; without folders, every picture is a group of its own."""
    if all(path.parent == root for path in paths):
        return {path.name: [path] for path in paths}
    relative = {path: path.relative_to(root).parts if root.is_dir() else (path.name,) for path in paths}
    return {name: list(members) for name, members in groupby(paths, lambda path: relative[path][0])}


def pictures(paths: list[Path]) -> Iterable[np.ndarray]:
    """Yield the pictures, one decoded at a time."""
    return (read_picture(path).rgb for path in paths)


def summary(paths: list[Path]) -> str:
    """The noise model of ``paths`` in one line, or why it cannot be estimated."""
    try:
        return describe_noise(estimate(pictures(paths)))
    except UserError as error:
        return f"no estimate: {error}"


def write_figure(model: NoiseModel, path: Path) -> None:
    """Write the figure of ``model``.

    Raises:
        UserError: matplotlib is missing, or the file cannot be written.
    """
    figure = plot(model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise UserError(f"--output: {path}: cannot be written ({error.strerror}); choose another place") from error
