"""``atbsn convert``: convert weight files."""

from argparse import Namespace

from atbsn.app.denoising import named_network
from atbsn.engine.convert import convert
from atbsn.utils.log import logger


def main(arguments: Namespace) -> None:
    params, metadata = convert(arguments.input, arguments.output, named_network(arguments.network))
    count = sum(tensor.numel() for tensor in params.values())
    logger.info("%s: %s, %s parameters", arguments.output, metadata["network"], f"{count:,}")
