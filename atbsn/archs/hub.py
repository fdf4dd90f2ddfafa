"""Weights on the Hugging Face hub, by name: ``hf:owner/name@revision``."""

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from atbsn.utils.errors import UserError, in_a_phrase

SCHEME = "hf:"
"""What the names of weights on the hub begin with."""
WEIGHTS, DESCRIPTION = "model.safetensors", "config.json"
"""Files that ``atbsn export --to hub`` writes to a repository. The description has the checksum of the weights."""
_NAME = re.compile(
    r"hf:(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>[^@]+))?", re.ASCII
)  # a slash may be in a revision, too: refs/pr/1


class HubName(NamedTuple):
    """A weight file on the hub.

    Attributes:
        repository: ``owner/name``.
        file: path of a safetensors file in the repository.
        revision: branch, tag or commit; None: the repository's default branch.
    """

    repository: str
    file: str
    revision: str | None


def is_hub_name(name: str | Path) -> bool:
    """Whether ``name`` names weights on the hub."""
    return _text(name).startswith(SCHEME)


def parse_hub_name(name: str | Path) -> HubName:
    """Parse ``hf:owner/name``, ``hf:owner/name@revision`` or ``hf:owner/name/file.safetensors@revision``.

    Raises:
        UserError: ``name`` has another form, or its file is not a safetensors file and could hold code.
    """
    found = _NAME.fullmatch(_text(name))
    if found is None:
        raise UserError(f"{_text(name)}: no name of weights on the hub; write hf:owner/name@revision")
    file = found["file"] or WEIGHTS
    if not file.endswith(".safetensors"):
        raise UserError(f"{_text(name)}: from the hub only safetensors are read, which hold no code; name another file")
    return HubName(found["repository"], file, found["revision"])


def fetch_from_hub(name: str | Path) -> Path:
    """Return the path of the file ``name`` on this computer: in the hub's cache, into which it is downloaded if needed.

    If the revision is a commit, the hub is not asked again once the file is in the cache. For other revisions the hub
    is asked once in a process. If it cannot be reached, or with HF_HUB_OFFLINE=1, the file in the cache is used.
    Private repositories need ``hf auth login``. HF_ENDPOINT and HF_HOME have their usual meaning.

    Raises:
        UserError: the name is wrong, there is no such file, the download fails, or the checksum is another than that in
            the repository's description.
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
    """Download one file of the repository; None if it does not exist and is not ``needed``."""
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
    except Exception as error:  # from the disk, or from the HTTP library that this version of huggingface_hub uses
        raise UserError(f"{where}: {file} cannot be had ({in_a_phrase(error)}); try again, or download it") from None


def _check(name: HubName, weights: Path, description: Path | None) -> None:
    """Raise a ``UserError`` if the description has another checksum than ``weights``."""
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
    """Read the checksum from ``config.json``; None if there is none. Those of other programs may hold anything."""
    try:
        content: Any = json.loads(description.read_text(encoding="utf-8")) if description else None
    except ValueError:
        return None
    told = content.get("sha256") if isinstance(content, dict) else None
    return told.lower() if isinstance(told, str) else None


def _text(name: str | Path) -> str:
    return name.as_posix() if isinstance(name, Path) else name
