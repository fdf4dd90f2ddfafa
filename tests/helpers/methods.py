"""Every registered training method, built small, with patches that suit it."""

from pathlib import Path

import torch

from atbsn.archs import build_arch
from atbsn.models import build_model
from atbsn.models.base import Model
from atbsn.registry import ARCHS, MODELS
from atbsn.registry.build import with_defaults
from atbsn.utils.errors import UserError


def method(name: str, folder: Path) -> tuple[dict[str, object], dict[str, object]]:
    """Options of a network that method ``name`` trains, and of the method: the first network that it takes."""
    arguments = {"type": name, **MODELS.get(name).example(folder)}
    refusals = []
    for network in ("ATBSN", *ARCHS):
        options = {"type": network, **ARCHS.get(network).example()}
        try:
            build_model(arguments, build_arch(options))
            return options, arguments
        except UserError as error:
            refusals.append(f"{network}: {error}")
    raise AssertionError(f"{name} takes no network: {refusals}")


def built(name: str, folder: Path, side: int = 64) -> tuple[Model, int]:
    """The method, and the side of a patch that suits it, ``side`` or a little more."""
    network, arguments = method(name, folder)
    torch.manual_seed(0)
    net = build_arch(network)
    cls = MODELS.get(name)
    given = with_defaults(cls, {key: value for key, value in arguments.items() if key != "type"})
    multiple = cls.patch_multiple(type(net), given)
    return build_model(arguments, net), -(-side // multiple) * multiple
