"""Weight files: reading any of the layouts in use, and finding the network they belong to.

Nothing in a file is executed: ``.pth`` is read with ``weights_only=True``, ``.safetensors`` holds no code.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import torch
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as format_safetensors
from torch import Tensor
from torch.overrides import TorchFunctionMode

from atbsn.archs import build_arch
from atbsn.archs.base import FINISHING, Network
from atbsn.archs.shipped import find_weights
from atbsn.ops.blind_spot import blind_spot_shift
from atbsn.registry import ARCHS
from atbsn.utils.errors import UserError, in_a_phrase
from atbsn.utils.files import read_tensors, write_atomically

METADATA_KEY = "atbsn"
"""The key of the metadata, as JSON, in a safetensors header."""

_WRAPPERS = ("module.", "_orig_mod.")
_NESTS = ("model_weight", "denoiser")
"""What AP-BSN's checkpoints keep the weights in, one inside the other."""
_NAMED = 20
"""How many of the keys that do not fit a message names."""
_STUDENT, _TEACHER = "nbsn.", "bsn."


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
    """Read ``.pth`` or ``.safetensors``: ``{params}``, ``{params_ema}``, bare, 'module.'-prefixed, or a
    distillation file with ``nbsn.*`` and ``bsn.*`` (of which the student's part is taken).

    Args:
        path: of the file, or the name of shipped weights. Numbers of 16 bits become float32.

    Raises:
        UserError: the file is missing, damaged, or holds anything but tensors by name, or numbers that are not finite.
    """
    path = find_weights(path)
    content, metadata = _read_file(path)
    content = content.get("params_ema", content.get("params", content.get("state_dict", content)))
    for nest in _NESTS:
        content = content.get(nest, content) if isinstance(content, dict) else content
    if not _is_state_dict(content):
        raise UserError(f"{path}: holds no weights (tensors by name); give a file that training saved")
    _check_metadata(metadata, path)
    params = {_unwrap(name): tensor for name, tensor in content.items()}
    if any(name.startswith(_STUDENT) for name in params):
        params = {name.removeprefix(_STUDENT): t for name, t in params.items() if not name.startswith(_TEACHER)}
    return Weights({name: _full_precision(name, tensor, path) for name, tensor in params.items()}, metadata)


def load_weights(net: Network, path: str | Path) -> dict[str, Any]:
    """Load the weights in ``path`` into ``net``; returns the file's metadata.

    ``net.denoise_settings`` and ``net.trained_patch`` are then those of the file.

    Raises:
        UserError: the file cannot be read, or belongs to another network (which keys or shapes differ).
    """
    weights = read_weights(path)
    params = type(net).convert_state(weights.params) or weights.params
    _check_fit(net, params, path)
    _check_arguments(net, weights.metadata.get("network"), path)
    net.load_state_dict(params)
    net.denoise_settings = _denoise_settings(type(net), weights.metadata, path)
    net.trained_patch = weights.metadata.get("patch_size")
    return weights.metadata


def load(path: str | Path) -> Network:
    """The network in ``path``, in evaluation mode: by the file's metadata, else by the names of its keys.

    ``path`` may also be the name of shipped weights, such as ``real``.

    Raises:
        UserError: the file cannot be read, or no registered architecture has such keys.
    """
    return load_with_metadata(path)[0]


def load_with_metadata(path: str | Path) -> tuple[Network, dict[str, Any]]:
    """As ``load``, with what the file says about its weights."""
    weights = read_weights(path)
    options, params = _identify(weights, path)
    with torch.device("meta"), _NoInitialValues():  # shapes alone: a damaged file may claim any width
        _check_fit(_build_claimed(options, path), params, path)
    net = build_arch(options)
    net.load_state_dict(params)
    net.denoise_settings = _denoise_settings(type(net), weights.metadata, path)
    net.trained_patch = weights.metadata.get("patch_size")
    return net.eval(), weights.metadata


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


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content and the metadata of a weight file, with every way of being damaged made one message."""
    try:
        if path.suffix == ".safetensors":
            data = path.read_bytes()
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            metadata = json.loads(header.get("__metadata__", {}).get(METADATA_KEY, "{}"))
            content = parse_safetensors(data)
        else:
            content = read_tensors(path)
            if not isinstance(content, dict):
                raise TypeError(f"holds a {type(content).__name__}, not a dictionary")
            metadata = content.get("metadata")
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    except Exception as error:  # a damaged file can fail anywhere in the readers, with any exception
        raise UserError(
            f"{path}: not a readable weight file ({in_a_phrase(error)}); "
            "it is damaged, or holds something other than tensors, which is never executed; give another file"
        ) from None
    return content, metadata if isinstance(metadata, dict) else {}


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


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items())
    )


def _full_precision(name: str, tensor: Tensor, path: Path) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    if not tensor.isfinite().all():
        raise UserError(f"{path}: {name} is not finite; the training went wrong, so give weights from before that")
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _unwrap(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.split(".", 1)[1]
    return name


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
    # Our own key names first: APR-RD's files, which have those of AT-BSN, have to be named.
    for raw in (True, False):
        for name in ARCHS:
            cls = ARCHS.get(name)
            params = weights.params if raw else cls.convert_state(weights.params)
            arguments = None if params is None else cls.recognise(_shapes(params))
            if params is not None and arguments is not None:
                return {"type": name, **arguments}, cls.convert_state(params) or params
    raise UserError(
        f"{path}: no registered architecture has keys such as {', '.join(sorted(weights.params)[:3])}; "
        f"known architectures: {', '.join(ARCHS)}"
    )


def _shapes(params: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in params.items()}
