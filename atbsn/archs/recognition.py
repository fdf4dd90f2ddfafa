"""Find the network that weights belong to, and check that they fit it. ``atbsn.archs.weights`` loads them."""

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from atbsn.archs import build_arch
from atbsn.archs.base import Network
from atbsn.archs.lookalikes import likeliest
from atbsn.archs.weight_files import parts_of
from atbsn.registry import ARCHS
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger

_MAX_NAMED = 20
"""Most keys that do not fit which a message names. Chosen by hand."""

Params = dict[str, Tensor]
"""Tensors by name, a state dict."""


def identify(params: Params, metadata: Mapping[str, Any], path: str | Path) -> tuple[Any, Params]:
    """Find the options of the network from the file's metadata or else from its keys; and its weights under our names.

    Options of metadata are returned as they are, unchecked.

    Raises:
        UserError: no registered architecture has such keys.
    """
    if metadata.get("network"):
        return metadata["network"], params
    # Our own names come first: the names that one network has at its authors may be our names for another network.
    for part, converted in product(parts_of(params), (False, True)):
        for name in ARCHS:
            cls = ARCHS.get(name)
            found = _recognised(cls, part, converted)
            if found is not None:
                own, arguments = found
                say_what_is_left_out(part, params, path)
                own = cls.convert_state(own) or own
                return _likeliest({"type": name, **arguments}, cls.lookalikes(arguments), own, path)
    raise UserError(
        f"{path}: no registered architecture has keys such as {', '.join(sorted(params)[:3])}; "
        f"known architectures: {', '.join(ARCHS)}"
    )


def arguments_from(net_class: type[Network], params: Params) -> dict[str, Any]:
    """Find the constructor arguments of a ``net_class`` from its weights; none if they are not recognised."""
    for part, converted in product(parts_of(params), (False, True)):
        found = _recognised(net_class, part, converted)
        if found is not None:
            return found[1]
    return {}


def _recognised(net_class: type[Network], part: Params, converted: bool) -> tuple[Params, dict[str, Any]] | None:
    """Let ``net_class`` recognise ``part``, as it is or ``converted`` from its authors' names.

    Returns:
        The weights and the constructor arguments; None if they are another network's.
    """
    params = net_class.convert_state(part) if converted else part
    arguments = None if params is None else net_class.recognise(shapes_of(params))
    return None if params is None or arguments is None else (params, arguments)


def fits(net_class: type[Network], params: Params) -> bool:
    """Whether ``params`` are exactly the weights of a ``net_class``, under our names or its authors'."""
    params = net_class.convert_state(params) or params
    arguments = net_class.recognise(shapes_of(params))
    if arguments is None:
        return False
    try:
        with torch.device("meta"), _NoInitialValues():
            own = build_arch({"type": net_class.__name__, **arguments}).state_dict()
    except (ValueError, TypeError, OverflowError, RuntimeError):
        return False
    return shapes_of(own) == shapes_of(params)


def check_claim(options: Any, params: Params, path: str | Path) -> None:
    """Refuse ``options`` that a file claims for its ``params`` but that build no network, or one with other weights.

    The network is built without memory for its weights, since a damaged file may claim any width.

    Raises:
        UserError: the options build no network, or its weights have other names or shapes.
    """
    with torch.device("meta"), _NoInitialValues():
        try:
            net = build_arch(options)
        except (ValueError, TypeError, OverflowError, RuntimeError) as error:
            raise UserError(f"{path}: its metadata name no network ({error}); give another file") from None
        check_fit(net, params, path)


def check_fit(net: Network, params: Params, path: str | Path) -> None:
    """Raise a ``UserError`` that says how ``params`` differ from the weights of ``net``, if they do."""
    own = net.state_dict()
    missing = sorted(own.keys() - params.keys())
    unexpected = sorted(params.keys() - own.keys())
    shapes = [
        f"{name} is {tuple(params[name].shape)} where {tuple(own[name].shape)} is needed"
        for name in own.keys() & params.keys()
        if params[name].shape != own[name].shape
    ]
    differences = [
        f"{len(names)} {what} ({_enumerate(sorted(names))})"
        for what, names in (
            ("missing", missing),
            ("unknown", unexpected),
            ("of another shape", shapes),
        )
        if names
    ]
    if differences:
        raise UserError(
            f"{path}: the weights of another network, not of this {type(net).__name__}: {'; '.join(differences)}; "
            "give its own weights, or the network's own type and width"
        )


def check_same_arguments(net: Network, claimed: Any, path: str | Path) -> None:
    """Refuse weights that were made with other arguments which do not change the shapes, such as another ``mean``."""
    if net.options is None or not isinstance(claimed, dict):
        return
    own, claimed = (json.loads(json.dumps(options)) for options in (net.options, claimed))  # JSON makes tuples lists
    different = [
        f"{key} {claimed[key]!r}, here {own[key]!r}" for key in claimed if key in own and own[key] != claimed[key]
    ]
    if different:
        raise UserError(f"{path}: its network was made with {'; '.join(different)}; use the same arguments")


def _likeliest(
    options: dict[str, Any], others: Sequence[dict[str, Any]], params: Params, path: str | Path
) -> tuple[dict[str, Any], Params]:
    """Find which of several networks with the same names and shapes these weights most likely belong to.

    It is the first one, unless another denoises clearly better with them. The user is told what was decided.

    Returns:
        The options of that network, and the weights for it.
    """
    if not others:
        return options, params
    check_claim(options, params, path)
    found = likeliest(options, others, params)
    logger.warning(
        "%s: fits networks of the same names and shapes alike; taken for %s, which errs by %.2f grey values on a "
        "made-up noisy picture, the other by %s. If you know better, name it (network)",
        path, found.options, found.error, ", ".join(f"{error:.2f}" for error in found.others),
    )  # fmt: skip
    return dict(found.options), ARCHS.get(found.options["type"]).convert_state(params) or params


def say_if_another_is_likelier(net: Network, params: Params, path: str | Path) -> None:
    """Warn if weights that the user loads into ``net`` more likely belong to another network."""
    arguments = {name: value for name, value in (net.options or {}).items() if name != "type"}
    others = type(net).lookalikes(arguments)
    if not net.options or not others:
        return
    found = likeliest(net.options, others, params)
    if found.options != net.options:
        logger.warning(
            "%s: loaded as %s, but these weights look like those of %s: on a made-up noisy picture they err by %.2f "
            "grey values as that, by %.2f as this", path, net.options, found.options, found.error, found.others[0],
        )  # fmt: skip


def say_what_is_left_out(part: Params, whole: Params, path: str | Path) -> None:
    """Warn about the tensors of ``whole`` that are not in ``part``."""
    taken = {id(tensor) for tensor in part.values()}
    left = [name for name, tensor in whole.items() if id(tensor) not in taken]
    if left:
        logger.warning("%s: holds %d tensors beside the network, left out: %s", path, len(left), _enumerate(left[:3]))


def shapes_of(params: Params) -> dict[str, tuple[int, ...]]:
    """The shapes of ``params`` by name."""
    return {key: tuple(tensor.shape) for key, tensor in params.items()}


def _enumerate(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


class _NoInitialValues(TorchFunctionMode):
    """Skips ``torch.nn.init``. On ``meta``, PyTorch would import its compiler (160 MB) to draw numbers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
