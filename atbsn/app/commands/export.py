"""``atbsn export``: export a network for other programs."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from atbsn.archs.base import Network
from atbsn.archs.hub import WEIGHTS, is_hub_name, parse_hub_name
from atbsn.archs.weights import load_with_metadata
from atbsn.engine.export import darktable, hub, onnx_file
from atbsn.engine.export.graph import SIZES
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger


def main(arguments: Namespace) -> None:
    if arguments.half and arguments.to == "hub":
        raise UserError("--half: is for graphs; the hub's folder has numbers of 16 bits where nothing is lost by it")
    name = _name(arguments.weights)
    net, metadata = load_with_metadata(arguments.weights)
    if arguments.to == "hub":
        _to_hub(net, arguments.output or Path(f"atbsn-{name}"), metadata, name)
    elif arguments.to == "darktable":
        path = arguments.output or Path(darktable.model_id(name) + darktable.SUFFIX)
        _to_darktable(net, path, metadata, arguments.half)
    else:
        _to_onnx(net, arguments.output or Path(f"{name}.onnx"), metadata, arguments.half)


def _name(weights: str) -> str:
    """The name of weights: that of shipped ones, the stem of a file, or the name of a repository of the hub."""
    return parse_hub_name(weights).repository.split("/")[1] if is_hub_name(weights) else Path(weights).stem


def _to_hub(net: Network, folder: Path, metadata: dict[str, Any], name: str) -> None:
    checksum = hub.export(net, folder, metadata, name)
    logger.info("%s: %s, its description and a model card (sha256 %s)", folder, WEIGHTS, checksum)
    if "terms" not in metadata:
        logger.info("write in %s under which terms the weights are: license: ... in its first lines", folder / hub.CARD)
    logger.info("hf upload OWNER/%s %s uploads it", folder.name, folder)


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
