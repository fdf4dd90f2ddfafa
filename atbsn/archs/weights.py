"""Load, read and save weights. ``atbsn.archs.recognition`` finds the network that they belong to."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import torch
from safetensors.torch import save as format_safetensors
from torch import Tensor

from atbsn.archs import build_arch
from atbsn.archs.base import FINISHING, Network
from atbsn.archs.recognition import (
    arguments_from,
    check_claim,
    check_fit,
    check_same_arguments,
    identify,
    say_if_another_is_likelier,
    say_what_is_left_out,
)
from atbsn.archs.shipped import find_weights
from atbsn.archs.weight_files import METADATA_KEY, parts_of, read_file, tensors_in
from atbsn.ops.blind_spot import blind_spot_shift
from atbsn.registry import ARCHS
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_atomically


@dataclass(frozen=True)
class Weights:
    """What a weight file holds: tensors by name, and what is known about them.

    Attributes:
        params: the state dict; that of the averaged weights (``params_ema``) if the file has them.
        metadata: ``network`` (type and arguments), ``denoise`` (keywords of ``Network.denoise`` and of ``finish`` that
            the weights were trained for; older files have only ``k``), ``iteration``, ``dataset`` and so on. Empty if
            the file holds only tensors.
    """

    params: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)


def read_weights(path: str | Path) -> Weights:
    """Read the weights in a ``.pth`` or ``.safetensors`` file.

    The tensors may be at the top level, below a usual name such as ``params``, ``params_ema`` or ``model_state_dict``,
    or have the prefix ``module.``. Of a distillation file with ``nbsn.*`` and ``bsn.*``, the student's part is read
    (``weight_files.tensors_in``). Numbers of 16 bits become float32.

    Args:
        path: as in ``load``.

    Raises:
        UserError: the file is missing, damaged, or holds something other than tensors by name, or numbers that are not
            finite.
    """
    path = find_weights(path)
    content, metadata = read_file(path)
    params = tensors_in(content, path)
    _check_metadata(metadata, path)
    return Weights({name: _full_precision(name, tensor, path) for name, tensor in params.items()}, metadata)


def load_weights(net: Network, path: str | Path) -> dict[str, Any]:
    """Load the weights in ``path`` into ``net`` and return the file's metadata.

    ``net.denoise_settings`` and ``net.trained_patch`` are set from the file. If a file of another program holds more
    than the network, that is left out, and a warning says so.

    Raises:
        UserError: the file cannot be read, or belongs to another network. The message says which keys or shapes differ.
    """
    weights = read_weights(path)
    own = net.state_dict().keys()
    parts = [(part, type(net).convert_state(part) or part) for part in parts_of(weights.params)]
    part, params = max(parts, key=lambda each: len(own & each[1].keys()))  # the first of those that fit alike
    check_fit(net, params, path)
    check_same_arguments(net, weights.metadata.get("network"), path)
    say_what_is_left_out(part, weights.params, path)
    if not weights.metadata.get("network"):
        say_if_another_is_likelier(net, params, path)
    net.load_state_dict(params)
    net.denoise_settings = _denoise_settings(type(net), weights.metadata, path)
    net.trained_patch = weights.metadata.get("patch_size")
    return weights.metadata


def load(path: str | Path, network: str | Mapping[str, Any] | None = None) -> Network:
    """Build the network that the weights in ``path`` belong to, load them, and set it to evaluation mode.

    The network is found by the file's metadata, or else by the names of its keys. Networks that compute on [0, 1] and
    on [0, 255] can have the same keys. If the file does not tell which one it is, both are tried on a noisy picture,
    the better one is taken, and a warning says so.

    Args:
        path: a weight file; or the name of shipped weights, such as ``real``; or weights on the Hugging Face hub,
            ``hf:owner/name@revision`` (extra ``[hub]``).
        network: needed for a file of another program that does not tell its network: the type, such as ``"StudentC"``,
            or the options, such as ``{"type": "StudentC", "scale": 255}``. Options that are left out are found from the
            shapes.

    Raises:
        UserError: the file cannot be read, no registered architecture has such keys, or ``network`` has others.
    """
    return load_with_metadata(path, network)[0]


def load_with_metadata(
    path: str | Path, network: str | Mapping[str, Any] | None = None
) -> tuple[Network, dict[str, Any]]:
    """Load a network as ``load`` does, and return it with the file's metadata."""
    if network is not None:
        net = build_arch(_whole_options({"type": network} if isinstance(network, str) else network, path))
        metadata = load_weights(net, path)
        return net.eval(), metadata
    weights = read_weights(path)
    return network_of(weights, path), weights.metadata


def network_of(weights: Weights, path: str | Path) -> Network:
    """Build the network that ``weights`` belong to and load them, as ``load`` does.

    Args:
        path: the file that they come from, for messages.
    """
    options, params = identify(weights.params, weights.metadata, path)
    check_claim(options, params, path)
    net = build_arch(options)
    net.load_state_dict(params)
    net.denoise_settings = _denoise_settings(type(net), weights.metadata, path)
    net.trained_patch = weights.metadata.get("patch_size")
    return net.eval()


def _whole_options(given: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Complete the options ``given`` for a network by those that its weights tell."""
    cls = ARCHS.get(given.get("type"))
    weights = read_weights(path)
    claimed = weights.metadata.get("network")
    if isinstance(claimed, dict) and claimed.get("type") == given["type"]:
        return {**claimed, **given}
    return {**arguments_from(cls, weights.params), **given}


def network_class(path: str | Path) -> type[Network]:
    """Find the class of the network in ``path``. The file is read, but the network is not built.

    Raises:
        UserError: as ``load``.
    """
    weights = read_weights(path)
    options, _ = identify(weights.params, weights.metadata, path)
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
    """Write a weight file.

    ``.pth`` holds ``{params, params_ema, metadata}``. ``.safetensors`` holds the metadata and the averaged weights
    ``params_ema`` if there are any, otherwise ``params``. The file is written atomically: it is whole, or the old one
    stays.

    Raises:
        UserError: the file cannot be written.
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
    """Refuse metadata that the framework would use without another check."""
    patch_size = metadata.get("patch_size", 1)
    if isinstance(patch_size, bool) or not isinstance(patch_size, int) or not 0 < patch_size < 2**16:
        raise UserError(
            f"{path}: its metadata say patch_size = {shorten(patch_size)}, which is no size; give another file"
        )


def _denoise_settings(net_class: type[Network], metadata: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Read the keywords of ``denoise`` that the weights were trained for; older files have only ``k``.

    There may be settings of ``FINISHING`` among them, whose values are checked when a picture is denoised.
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
