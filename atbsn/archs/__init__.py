"""Floor 2: networks, one family a file. ``build_arch`` makes one by name."""

from collections.abc import Mapping
from typing import Any

from atbsn.archs.base import Network
from atbsn.registry import ARCHS
from atbsn.registry.build import build, with_defaults

__all__ = ["build_arch"]


def build_arch(options: Mapping[str, Any]) -> Network:
    """Build the architecture ``options["type"]`` with the other entries as its arguments.

    ``net.options`` keeps what it was built from, defaults included, tuples as lists; weight files carry it.

    Raises:
        UserError: the name is not registered, or the class does not take these arguments.
    """
    net = build(ARCHS, options)
    whole = with_defaults(type(net), options)
    net.options = {name: list(value) if isinstance(value, tuple) else value for name, value in whole.items()}
    return net
