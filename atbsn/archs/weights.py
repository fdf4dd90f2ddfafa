"""Weights and the networks they belong to: loading, identifying and saving them."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import torch
from safetensors.torch import save as format_safetensors
from torch import Tensor
from torch.overrides import TorchFunctionMode

from atbsn.archs import build_arch
from atbsn.archs.base import FINISHING, Network
from atbsn.archs.lookalikes import likeliest
from atbsn.archs.shipped import find_weights
from atbsn.archs.weight_files import METADATA_KEY, parts_of, read_file, tensors_in
from atbsn.ops.blind_spot import blind_spot_shift
from atbsn.registry import ARCHS
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_atomically
from atbsn.utils.log import logger

_NAMED = 20
"""How many of the keys that do not fit a message names."""


@dataclass(frozen=True)
class Weights:
    """What a weight file holds: tensors by name, and what is known about them.

    Attributes:
        params: the state dict; of the averaged weights (``params_ema``) where the file has them.
        metadata: ``network`` (type and arguments), ``denoise`` (keywords of ``Network.denoise`` that they were trained
            for, and of ``finish``; only ``k`` in older files), ``iteration``, ``dataset`` ...; empty in bare files.
    """

    params: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)


def read_weights(path: str | Path) -> Weights:
    """Read ``.pth`` or ``.safetensors``: bare, below any name of ``weight_files.tensors_in`` (``{params}``,
    ``{params_ema}``, ``{model_state_dict}``, ...), 'module.'-prefixed, or a distillation file with ``nbsn.*`` and
    ``bsn.*`` (of which the student's part is taken).

    Args:
        path: as in ``load``. Numbers of 16 bits become float32.

    Raises:
        UserError: the file is missing, damaged, or holds anything but tensors by name, or numbers that are not finite.
    """
    path = find_weights(path)
    content, metadata = read_file(path)
    params = tensors_in(content, path)
    _check_metadata(metadata, path)
    return Weights({name: _full_precision(name, tensor, path) for name, tensor in params.items()}, metadata)


def load_weights(net: Network, path: str | Path) -> dict[str, Any]:
    """Load the weights in ``path`` into ``net``; returns the file's metadata.

    ``net.denoise_settings`` and ``net.trained_patch`` are then those of the file. What a file of others
    holds beside the network is left out, which is said.

    Raises:
        UserError: the file cannot be read, or belongs to another network (which keys or shapes differ).
    """
    weights = read_weights(path)
    own = net.state_dict().keys()
    parts = [(part, type(net).convert_state(part) or part) for part in parts_of(weights.params)]
    part, params = max(parts, key=lambda each: len(own & each[1].keys()))  # the first of those that fit alike
    _check_fit(net, params, path)
    _check_arguments(net, weights.metadata.get("network"), path)
    _say_what_is_left_out(part, weights.params, path)
    if not weights.metadata.get("network"):
        _say_if_another_is_likelier(net, params, path)
    net.load_state_dict(params)
    net.denoise_settings = _denoise_settings(type(net), weights.metadata, path)
    net.trained_patch = weights.metadata.get("patch_size")
    return weights.metadata


def load(path: str | Path, network: str | Mapping[str, Any] | None = None) -> Network:
    """The network in ``path``, in evaluation mode: by the file's metadata, else by the names of its keys.

    Networks on [0, 1] and on [0, 255] can have the same keys. Where the file does not say which it is of, both are
    tried on a noisy picture, the better one is taken, and that is said.

    Args:
        path: of the file; or the name of shipped weights, such as ``real``; or of weights on the Hugging Face hub,
            ``hf:owner/name@revision`` (extra ``[hub]``).
        network: of a file of others that does not say it, its type, ``"StudentC"``, or its options, ``{"type":
            "StudentC", "scale": 255}``. What they leave out is told from the shapes.

    Raises:
        UserError: the file cannot be read, no registered architecture has such keys, or not those of ``network``.
    """
    return load_with_metadata(path, network)[0]


def load_with_metadata(
    path: str | Path, network: str | Mapping[str, Any] | None = None
) -> tuple[Network, dict[str, Any]]:
    """As ``load``, with what the file says about its weights."""
    if network is not None:
        net = build_arch(_whole_options({"type": network} if isinstance(network, str) else network, path))
        metadata = load_weights(net, path)
        return net.eval(), metadata
    weights = read_weights(path)
    return network_of(weights, path), weights.metadata


def network_of(weights: Weights, path: str | Path) -> Network:
    """The network that ``weights`` belong to, with them in it: as ``load``.

    Args:
        path: where they are from, for messages.
    """
    options, params = _identify(weights, path)
    with torch.device("meta"), _NoInitialValues():  # shapes alone: a damaged file may claim any width
        _check_fit(_build_claimed(options, path), params, path)
    net = build_arch(options)
    net.load_state_dict(params)
    net.denoise_settings = _denoise_settings(type(net), weights.metadata, path)
    net.trained_patch = weights.metadata.get("patch_size")
    return net.eval()


def fits(net_class: type[Network], params: dict[str, Tensor]) -> bool:
    """Whether ``params`` are all of what a ``net_class`` has, and nothing else, under our names or its authors'."""
    params = net_class.convert_state(params) or params
    arguments = net_class.recognise(_shapes(params))
    if arguments is None:
        return False
    try:
        with torch.device("meta"), _NoInitialValues():
            own = build_arch({"type": net_class.__name__, **arguments}).state_dict()
    except (ValueError, TypeError, OverflowError, RuntimeError):
        return False
    return _shapes(own) == _shapes(params)


def _whole_options(given: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """The options of a network that is named, with those that its weights tell where they are not given."""
    cls = ARCHS.get(given.get("type"))
    weights = read_weights(path)
    claimed = weights.metadata.get("network")
    if isinstance(claimed, dict) and claimed.get("type") == given["type"]:
        return {**claimed, **given}
    for part, raw in product(parts_of(weights.params), (True, False)):
        params = part if raw else cls.convert_state(part)
        arguments = None if params is None else cls.recognise(_shapes(params))
        if arguments is not None:
            return {**arguments, **given}
    return dict(given)


def network_class(path: str | Path) -> type[Network]:
    """The class of the network in ``path``, which is read but not built.

    Raises:
        UserError: as ``load``.
    """
    weights = read_weights(path)
    options, _ = _identify(weights, path)
    name = options.get("type") if isinstance(options, dict) else None
    if not isinstance(name, str) or name not in ARCHS:
        raise UserError(f"{path}: its metadata name no network ({shorten(name)}); give another file")
    return ARCHS.get(name)


def save_weights(
    path: str | Path,
    params: dict[str, Tensor],
    metadata: dict[str, Any],
    params_ema: dict[str, Tensor] | None = None,
) -> None:
    """Write ``{params, params_ema, metadata}`` (.pth), or the averaged weights, if any, and metadata (.safetensors).

    Atomic: the file is whole or the old one stays.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        tensors = {name: tensor.contiguous() for name, tensor in (params_ema or params).items()}
        data: bytes | memoryview = format_safetensors(tensors, metadata={METADATA_KEY: json.dumps(metadata)})
    else:
        content = {"params": params, "metadata": metadata}
        if params_ema is not None:
            content["params_ema"] = params_ema
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data = buffer.getbuffer()
    write_atomically(path, lambda file: file.write(data))


def _check_metadata(metadata: dict[str, Any], path: Path) -> None:
    """Refuse what the framework would later take at its word."""
    patch_size = metadata.get("patch_size", 1)
    if isinstance(patch_size, bool) or not isinstance(patch_size, int) or not 0 < patch_size < 2**16:
        raise UserError(
            f"{path}: its metadata say patch_size = {shorten(patch_size)}, which is no size; give another file"
        )


def _denoise_settings(net_class: type[Network], metadata: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Keywords of ``denoise`` that the weights were trained for; older files have nothing but ``k``.

    Those of ``FINISHING`` may stand among them; whoever denoises checks their values.
    """
    old = {"k": metadata["k"]} if "k" in metadata and "k" in net_class.denoise_keywords() else {}
    settings = metadata.get("denoise", old)
    try:
        if "denoise" not in metadata:
            blind_spot_shift(metadata.get("k", 0))
        if not isinstance(settings, dict):
            raise UserError(f"denoise: {shorten(settings)}: not a mapping")
        common = {name: settings[name] for name in settings if name in FINISHING}
        return common | net_class.check_denoise({name: settings[name] for name in settings if name not in FINISHING})
    except UserError as error:
        raise UserError(f"{path}: its metadata are wrong: {error}; give another file") from None


def _full_precision(name: str, tensor: Tensor, path: Path) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    if not tensor.isfinite().all():
        raise UserError(f"{path}: {name} is not finite; the training went wrong, so give weights from before that")
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


class _NoInitialValues(TorchFunctionMode):
    """Leaves out ``torch.nn.init``; for ``meta``, PyTorch would import its compiler (160 MB) to draw numbers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _build_claimed(options: Any, path: str | Path) -> Network:
    """The network that a file's metadata claim, which nobody has checked."""
    try:
        return build_arch(options)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise UserError(f"{path}: its metadata name no network ({error}); give another file") from None


def _check_fit(net: Network, params: dict[str, Tensor], path: str | Path) -> None:
    """Say in a sentence how a file's weights differ from what ``net`` needs."""
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


def _enumerate(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _check_arguments(net: Network, claimed: Any, path: str | Path) -> None:
    """Refuse weights made with arguments that leave no trace in the shapes, such as another ``mean``."""
    if net.options is None or not isinstance(claimed, dict):
        return
    own, claimed = (json.loads(json.dumps(options)) for options in (net.options, claimed))  # a tuple is a list there
    different = [
        f"{key} {claimed[key]!r}, here {own[key]!r}" for key in claimed if key in own and own[key] != claimed[key]
    ]
    if different:
        raise UserError(f"{path}: its network was made with {'; '.join(different)}; use the same arguments")


def _identify(weights: Weights, path: str | Path) -> tuple[Any, dict[str, Tensor]]:
    """The network's options, of the metadata or of what its keys show, and its weights under our names."""
    if weights.metadata.get("network"):
        return weights.metadata["network"], weights.params
    # Our own key names first: a network whose authors' names are another's of ours does not take them away.
    for part, raw in product(parts_of(weights.params), (True, False)):
        for name in ARCHS:
            cls = ARCHS.get(name)
            params = part if raw else cls.convert_state(part)
            arguments = None if params is None else cls.recognise(_shapes(params))
            if params is not None and arguments is not None:
                _say_what_is_left_out(part, weights.params, path)
                params = cls.convert_state(params) or params
                return _likeliest({"type": name, **arguments}, cls.lookalikes(arguments), params, path)
    raise UserError(
        f"{path}: no registered architecture has keys such as {', '.join(sorted(weights.params)[:3])}; "
        f"known architectures: {', '.join(ARCHS)}"
    )


def _likeliest(
    options: dict[str, Any], others: Sequence[dict[str, Any]], params: dict[str, Tensor], path: str | Path
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Find which of several networks with the same names and shapes these bare weights most likely belong to.

    It is the first one, unless another denoises clearly better with them. The user is told what was decided.

    Returns:
        The options of that network, and the weights for it.
    """
    if not others:
        return options, params
    with torch.device("meta"), _NoInitialValues():
        _check_fit(_build_claimed(options, path), params, path)
    found = likeliest(options, others, params)
    logger.warning(
        "%s: fits networks of the same names and shapes alike; taken for %s, which errs by %.2f grey values on a "
        "made-up noisy picture, the other by %s. If you know better, name it (network)",
        path, found.options, found.error, ", ".join(f"{error:.2f}" for error in found.others),
    )  # fmt: skip
    return dict(found.options), ARCHS.get(found.options["type"]).convert_state(params) or params


def _say_if_another_is_likelier(net: Network, params: dict[str, Tensor], path: str | Path) -> None:
    """Warn if weights that the user loads into a network by name more likely belong to another network."""
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


def _say_what_is_left_out(part: dict[str, Tensor], whole: dict[str, Tensor], path: str | Path) -> None:
    taken = {id(tensor) for tensor in part.values()}
    left = [name for name, tensor in whole.items() if id(tensor) not in taken]
    if left:
        logger.warning("%s: holds %d tensors beside the network, left out: %s", path, len(left), _enumerate(left[:3]))


def _shapes(params: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in params.items()}
