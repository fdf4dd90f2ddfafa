"""``atbsn export``: a network as an ONNX file."""

from argparse import Namespace

from atbsn.archs.weights import load_with_metadata
from atbsn.engine.export import CHECKED, export
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger


def main(arguments: Namespace) -> None:
    if arguments.output.suffix != ".onnx":
        raise UserError(f"{arguments.output}: not an ONNX file's name; end it with .onnx")
    net, metadata = load_with_metadata(arguments.weights)
    difference = export(net, arguments.output, metadata)
    text = "%s: %s for pictures of any size; ONNX Runtime differs by at most %.2g grey levels on %d sizes"
    logger.info(text, arguments.output, type(net).__name__, difference, len(CHECKED))
