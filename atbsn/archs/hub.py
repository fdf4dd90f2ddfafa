"""Weights on the Hugging Face hub, by name: ``hf:owner/name@revision``."""

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from atbsn.utils.errors import UserError, in_a_phrase

SCHEME = "hf:"
WEIGHTS, DESCRIPTION = "model.safetensors", "config.json"
"""Files of a repository: what ``atbsn export --to hub`` writes. The description has the checksum of the weights."""
_NAME = re.compile(
    r"hf:(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>[^@]+))?", re.ASCII
)  # a slash may be in a revision, too: refs/pr/1


class HubName(NamedTuple):
    """A weight file on the hub.

    Attributes:
        repository: ``owner/name``.
        file: in it, a safetensors file.
        revision: branch, tag or commit; None: what the owner shows today.
    """

    repository: str
    file: str
    revision: str | None


def is_hub_name(name: str | Path) -> bool:
    """Whether ``name`` is of weights on the hub."""
    return _text(name).startswith(SCHEME)


def parse_hub_name(name: str | Path) -> HubName:
    """``hf:owner/name``, ``hf:owner/name@revision`` or ``hf:owner/name/file.safetensors@revision``.

    Raises:
        UserError: it is not like that, or of a file that could hold code.
    """
    found = _NAME.fullmatch(_text(name))
    if found is None:
        raise UserError(f"{_text(name)}: no name of weights on the hub; write hf:owner/name@revision")
    file = found["file"] or WEIGHTS
    if not file.endswith(".safetensors"):
        raise UserError(f"{_text(name)}: from the hub only safetensors are read, which hold no code; name another file")
    return HubName(found["repository"], file, found["revision"])


def fetch_from_hub(name: str | Path) -> Path:
    """The file ``name`` on this computer: from the hub's cache, else downloaded into it.

    A revision that is a commit is not asked for again once it is there; for others the hub is asked once in a process,
    and what the cache has is taken where it cannot be reached, or with HF_HUB_OFFLINE=1. Private repositories need
    ``hf auth login``. HF_ENDPOINT and HF_HOME are heeded.

    Raises:
        UserError: the name is wrong, there is no such file, it cannot be had, or it is not what its description says.
    """
    return _fetch(parse_hub_name(name))


@lru_cache
def _fetch(name: HubName) -> Path:
    path = _download(name, name.file)
    assert path is not None, "only the description may be missing"
    if name.file == WEIGHTS:
        _check(name, path, _download(name, DESCRIPTION, needed=False))
    return path


def _download(name: HubName, file: str, needed: bool = True) -> Path | None:
    """One file of the repository; None if it is not there and not ``needed``."""
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError as error:
        raise UserError(f"huggingface_hub: cannot be imported ({error}); pip install 'atbsn[hub]'") from None
    where = f"{SCHEME}{name.repository}" + (f"@{name.revision}" if name.revision else "")
    try:
        return Path(hf_hub_download(name.repository, file, revision=name.revision, library_name="atbsn"))
    except errors.LocalEntryNotFoundError:
        if not needed:
            return None
        raise UserError(
            f"{where}: the hub cannot be reached, and {file} is not in its cache on this computer; go online once "
            "(without HF_HUB_OFFLINE)"
        ) from None
    except errors.EntryNotFoundError:
        if not needed:
            return None
        raise UserError(f"{where}: has no file {file}; name the one it has: {where.split('@')[0]}/FILE") from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{where}: no such repository, or none that you may read; check the name, or hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{where}: has no revision {name.revision}; name a branch, tag or commit of it") from None
    except Exception as error:  # of the HTTP library that this version of the hub's uses, and of the disk
        raise UserError(f"{where}: {file} cannot be had ({in_a_phrase(error)}); try again, or download it") from None


def _check(name: HubName, weights: Path, description: Path | None) -> None:
    """Raise a ``UserError`` if the description names a checksum that ``weights`` do not have."""
    told = _checksum_in(description)
    if told is None:
        return
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if found != told:
        raise UserError(
            f"{SCHEME}{name.repository}: {name.file} has the checksum {found[:12]}..., its {DESCRIPTION} says "
            f"{told[:12]}...; it is damaged or was changed: remove {weights} and try again, or ask its owner"
        )


def _checksum_in(description: Path | None) -> str | None:
    """What ``config.json`` says; those of other programs may hold anything."""
    try:
        content: Any = json.loads(description.read_text(encoding="utf-8")) if description else None
    except ValueError:
        return None
    told = content.get("sha256") if isinstance(content, dict) else None
    return told.lower() if isinstance(told, str) else None


def _text(name: str | Path) -> str:
    return name.as_posix() if isinstance(name, Path) else name
