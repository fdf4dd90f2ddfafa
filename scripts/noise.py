"""What noise a picture or a folder of pictures has, estimated from the noisy pictures alone.

    python scripts/noise.py photographs
    python scripts/noise.py photographs/IMG_0001.JPG --output noise.png

Of a folder, one line for each of its subfolders (or, without any, of its pictures) and one for all together.
``--output`` draws the model of all: level against intensity, and correlation.
"""

import argparse
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from atbsn.engine.commands import run_command
from atbsn.noise import NoiseModel, describe, estimate, picture
from atbsn.pictures import image_paths, read_picture
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger

_FIGURES = (".png", ".pdf", ".svg")


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    options = parse(arguments)
    if options.output and options.output.suffix.lower() not in _FIGURES:
        raise UserError(f"--output: {options.output}: a figure is written as {', '.join(_FIGURES)}")
    paths = image_paths(options.input)
    parts = groups(paths, options.input)
    if len(parts) > 1:
        for name, members in parts.items():
            logger.info("%s: %s", name, summary(members))
    model = estimate(pictures(paths))
    logger.info("%s (%d): %s", options.input, len(paths), describe(model))
    if options.output:
        write_figure(model, options.output)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=Path, help="a picture, or a folder of pictures, searched recursively")
    parser.add_argument("--output", type=Path, help="figure of the model to write: .png, .pdf or .svg")
    return parser.parse_args(arguments)


def groups(paths: list[Path], root: Path) -> dict[str, list[Path]]:
    """Pictures by the first folder below ``root``, or each for itself if there are no folders."""
    if all(path.parent == root for path in paths):
        return {path.name: [path] for path in paths}
    relative = {path: path.relative_to(root).parts if root.is_dir() else (path.name,) for path in paths}
    return {name: list(members) for name, members in groupby(paths, lambda path: relative[path][0])}


def pictures(paths: list[Path]) -> Iterable[np.ndarray]:
    """Decode one after the other."""
    return (read_picture(path).rgb for path in paths)


def summary(paths: list[Path]) -> str:
    """The model of ``paths`` in one line, or why there is none."""
    try:
        return describe(estimate(pictures(paths)))
    except UserError as error:
        return f"no estimate: {error}"


def write_figure(model: NoiseModel, path: Path) -> None:
    """Write the figure of ``model``.

    Raises:
        UserError: matplotlib is missing, or the file cannot be written.
    """
    figure = picture(model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise UserError(f"--output: {path}: cannot be written ({error.strerror}); choose another place") from error


if __name__ == "__main__":
    run_command(main)
