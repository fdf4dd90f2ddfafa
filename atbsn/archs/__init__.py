"""Floor 2: networks, one family a file. ``build_arch`` makes one by name."""

import inspect

from atbsn.archs.base import Network
from atbsn.registry import ARCHS
from atbsn.utils.build import build

__all__ = ["build_arch"]


def build_arch(options: dict) -> Network:
    """Build the architecture ``options["type"]`` with the other entries as its arguments.

    ``net.options`` keeps what it was built from, defaults included; weight files carry it.

    Raises:
        UserError: the name is not registered, or the class does not take these arguments.
    """
    net = build(ARCHS, options)
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(type(net)).parameters.items()
        if parameter.default is not parameter.empty
    }
    net.options = {**defaults, **options}
    return net
