"""``atbsn convert``: weight files into others."""

from argparse import Namespace

from atbsn.engine.convert import convert
from atbsn.options.load import parse_yaml
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger


def main(arguments: Namespace) -> None:
    network = None if arguments.network is None else parse_yaml(arguments.network, "--network")
    if network is not None and not isinstance(network, dict):
        raise UserError(
            f"--network: {arguments.network}: no options of a network; write '{{type: {arguments.network}}}'"
        )
    params, metadata = convert(arguments.input, arguments.output, network)
    count = sum(tensor.numel() for tensor in params.values())
    logger.info("%s: %s, %s parameters", arguments.output, metadata["network"], f"{count:,}")
