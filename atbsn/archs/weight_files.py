"""Reading weight files: find the tensors in what a program saved around them, or say what the file is instead.

Nothing in a file is executed: ``.pth`` is read with ``weights_only=True``, and ``.safetensors`` holds no code.
"""

import json
import re
from collections.abc import Iterator
from math import prod
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors.torch import load as parse_safetensors
from torch import Tensor

from atbsn.utils.errors import UserError, in_a_phrase
from atbsn.utils.files import read_tensors

METADATA_KEY = "atbsn"
"""The key of our metadata, a JSON text, in a safetensors header."""

_NESTS = (
    "params_ema", "ema_state_dict", "state_dict_ema", "model_ema", "ema", "params", "state_dict", "model_state_dict",
    "model_state", "model_weight", "model", "net", "network", "generator", "netG", "G", "denoiser", "weights",
)  # fmt: skip
"""Names under which programs keep the weights in a checkpoint, averaged ones first. BasicSR: params, params_ema;
Lightning: state_dict; AP-BSN: model_weight, in it denoiser; APR-RD: model_state_dict; GANs: generator, netG, G."""
_MAX_DEPTH = 3
"""Most dictionaries that are followed into one another. Chosen by hand; AP-BSN's files need two."""
_NO_NETWORK = re.compile("optim|sched|scaler|loss|discriminator|^net_?D$|^D$", re.IGNORECASE)
"""Entries of a checkpoint that hold other tensors than those of the network that denoises."""
_WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DataParallel and torch.compile put before every name."""
_MEMBERS = ("model.", "net.", "network.", "generator.", "netG.", "denoiser.", "student.")
"""Prefixes of the network in a module that holds it, such as Lightning's."""
_STUDENT, _TEACHER = "nbsn.", "bsn."
"""Prefixes of the student and the teacher in a distillation file of TM-BSN or APR-RD."""
_LFS = b"version https://git-lfs.github.com/spec/"
"""How the pointer files of Git LFS begin."""
_HEAD = 4096
"""Bytes of a file without weights that are looked at to say what it is. Chosen by hand: the title of a web page is near
its beginning."""


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the content and the metadata of a weight file.

    Raises:
        UserError: the file cannot be read, is damaged, or holds something else; the message says what it is.
    """
    try:
        if path.suffix == ".safetensors":
            _, metadata = _header(path)
            content = parse_safetensors(path.read_bytes())
        else:
            content = read_tensors(path)
            if not isinstance(content, dict):
                raise TypeError(f"holds a {type(content).__name__}, not a dictionary")
            metadata = content.get("metadata")
    except Exception as error:  # a damaged file can fail anywhere in the readers, with any exception
        raise _unreadable(path, error) from None
    return content, metadata if isinstance(metadata, dict) else {}


def read_header(path: Path) -> tuple[int, dict[str, Any]]:
    """Read the number of parameters and the metadata of a safetensors file, without reading the parameters.

    Raises:
        UserError: as ``read_file``.
    """
    try:
        shapes, metadata = _header(path)
    except Exception as error:  # as in read_file
        raise _unreadable(path, error) from None
    return sum(map(prod, shapes)), metadata if isinstance(metadata, dict) else {}


def _header(path: Path) -> tuple[list[list[int]], Any]:
    """Read the shapes of the tensors in a safetensors file, and our metadata."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    metadata = json.loads(header.pop("__metadata__", {}).get(METADATA_KEY, "{}"))
    return [entry["shape"] for entry in header.values()], metadata


def _unreadable(path: Path, error: Exception) -> UserError:
    if isinstance(error, PermissionError):
        return UserError(f"{path}: cannot be read ({error.strerror}); check its permissions")
    return UserError(f"{path}: {_no_weights(path, error)}")


def tensors_in(content: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """Find the network's tensors, by name, in whatever a program saved around them.

    The prefixes of DataParallel and ``torch.compile`` are removed. Of a distillation file with ``nbsn.*`` and
    ``bsn.*``, the student's part is taken.

    Raises:
        UserError: there are none, or several sets of tensors and none of them has a known name.
    """
    found = dict(_state_dicts(content))
    if not found:
        raise UserError(
            f"{path}: holds no weights (tensors by name) but {_listed(content)}; give a file that training saved"
        )
    known = [where for where in found if all(name in _NESTS for name in where)]
    if not known and len(found) > 1:
        names = ", ".join(".".join(where) for where in found)
        raise UserError(
            f"{path}: holds several sets of tensors ({names}), of which none has a name that says 'the network'; save "
            'the one that denoises by itself, or under "params"'
        )
    where = min(known, key=lambda each: [_NESTS.index(name) for name in each]) if known else next(iter(found))
    params = {_unwrap(name): tensor for name, tensor in found[where].items()}
    if any(name.startswith(_STUDENT) for name in params):
        params = {name.removeprefix(_STUDENT): t for name, t in params.items() if not name.startswith(_TEACHER)}
    return params


def parts_of(params: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield ``params``, then every part of them that has a usual prefix, without it, so ``model.conv.weight`` as
    ``conv.weight``.

    Lightning's modules keep the network below such a prefix, with losses and metrics beside it.
    """
    yield params
    for member in _MEMBERS:
        below = {_unwrap(n.removeprefix(member)): tensor for n, tensor in params.items() if n.startswith(member)}
        if below:
            yield from parts_of(below)


def _state_dicts(content: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Yield all dictionaries that hold only tensors by name, each with the names that lead to it."""
    if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content):
        return
    if all(isinstance(value, Tensor) for value in content.values()):
        yield where, content
    elif len(where) < _MAX_DEPTH:
        for name, value in content.items():
            if not _NO_NETWORK.search(name):
                yield from _state_dicts(value, (*where, name))


def _unwrap(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def _no_weights(path: Path, error: Exception) -> str:
    """Say what a file is that cannot be read, and what to do about it."""
    head = path.open("rb").read(_HEAD)
    if not head:
        return "an empty file; download it again"
    if head.startswith(_LFS):
        return "a Git LFS pointer, which stands for the file; run git lfs pull where it is from, or download the file"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        title = re.search(rb"<title[^>]*>(.*?)</title>", head, re.IGNORECASE | re.DOTALL)
        said = f" ({title[1].decode(errors='replace').strip()[:80]})" if title else ""
        return f"a web page{said}, not weights; the server sent it in place of the file, so download that in a browser"
    if path.name.endswith(".index"):
        return "the index of a TensorFlow checkpoint; atbsn convert makes a weight file of it"
    if isinstance(error, UnpicklingError) and (kind := re.search(r"GLOBAL ([\w.]+)", str(error))):
        return (
            f"not a readable weight file: it holds Python objects ({kind[1]}), whose code is never executed; save the "
            "state dict alone where its program is: torch.save(network.state_dict(), file)"
        )
    return (
        f"not a readable weight file ({in_a_phrase(error)}); "
        "it is damaged, or holds something other than tensors, which is never executed; give another file"
    )


def _listed(content: dict[str, Any]) -> str:
    names = [str(name) for name in list(content)[:5]]
    return ", ".join(names) + (" and others" if len(content) > 5 else "") or "nothing"
