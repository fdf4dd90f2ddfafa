"""``atbsn export``: a network as other programs take it."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from atbsn.archs.base import Network
from atbsn.archs.weights import load_with_metadata
from atbsn.engine.export import darktable, onnx_file
from atbsn.engine.export.graph import SIZES
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger


def main(arguments: Namespace) -> None:
    name = Path(arguments.weights).stem
    net, metadata = load_with_metadata(arguments.weights)
    if arguments.to == "darktable":
        path = arguments.output or Path(darktable.model_id(name) + darktable.SUFFIX)
        _to_darktable(net, path, metadata, arguments.half)
    else:
        _to_onnx(net, arguments.output or Path(f"{name}.onnx"), metadata, arguments.half)


def _to_onnx(net: Network, path: Path, metadata: dict[str, Any], half: bool) -> None:
    if path.suffix != ".onnx":
        raise UserError(f"{path}: not an ONNX file's name; end it with .onnx")
    difference = onnx_file.export(net, path, metadata, half)
    text = "%s: %s for pictures of any size; ONNX Runtime differs by at most %.2g grey levels on %d sizes"
    logger.info(text, path, type(net).__name__, difference, len(SIZES))


def _to_darktable(net: Network, path: Path, metadata: dict[str, Any], half: bool) -> None:
    found = darktable.export(net, path, metadata, half)
    text = (
        "%s: %s for darktable 5.6 and later (preferences, AI, import from file...); ONNX Runtime differs by at most "
        "%.2g grey levels on %d sizes, darktable's smallest tiles from one pass by %.2g (root mean square)"
    )
    logger.info(text, path, type(net).__name__, found.rounding, len(SIZES), found.tiles)
