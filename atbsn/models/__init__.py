"""Floor 3: training methods, one a file: which networks, which losses."""

from typing import Any

from atbsn.archs.base import Network
from atbsn.models.base import Model
from atbsn.registry import MODELS
from atbsn.registry.build import build

__all__ = ["build_model"]


def build_model(options: dict[str, Any], net: Network) -> Model:
    """Build the training method ``options["type"]`` around ``net``.

    Raises:
        UserError: the name is not registered, or the class does not take these arguments.
    """
    return build(MODELS, options, net=net)
