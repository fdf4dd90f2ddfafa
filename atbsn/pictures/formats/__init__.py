"""The table of picture formats: the ``CODEC`` of every module in this folder."""

from importlib import import_module
from importlib.util import find_spec
from mmap import mmap
from pathlib import Path
from pkgutil import iter_modules

from atbsn.pictures.formats.codec import Codec, Holds

__all__ = [
    "CODECS", "KINDS", "RAW", "SUFFIXES", "WRITTEN", "Codec", "Holds", "by_content", "by_suffix", "is_missing",
    "kinds_here", "written_suffix",
]  # fmt: skip


def _found() -> tuple[Codec, ...]:
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    codecs = [module.CODEC for module in modules if hasattr(module, "CODEC")]
    return tuple(sorted(codecs, key=lambda codec: not codec.asked_first))


CODECS = _found()
"""All formats, those with ``asked_first`` first."""
_BY_SUFFIX = {suffix: codec for codec in CODECS for suffix in codec.suffixes}
SUFFIXES = frozenset(_BY_SUFFIX)
"""Suffixes of files that are read."""
WRITTEN = frozenset(suffix for suffix, codec in _BY_SUFFIX.items() if codec.writes)
"""Suffixes of files that are written."""
RAW = SUFFIXES - WRITTEN
"""Suffixes of camera RAW, which is read and never written; a developed picture is written as a TIFF of 16 bits."""

_PLAIN = sorted(codec.name for codec in CODECS if codec.library is None)
KINDS = f"{', '.join(_PLAIN[:-1])} or {_PLAIN[-1]}"
"""Names of the formats that are read without an extra, as a text."""


def kinds_here() -> list[str]:
    """The names of the formats that are read with the libraries that are installed, in alphabetical order."""
    here = (codec.name for codec in CODECS if not is_missing(codec.suffixes[0]))
    return sorted(here, key=str.lower)


def by_suffix(suffix: str) -> Codec | None:
    """The format with this suffix, in small or large letters; None if there is none."""
    return _BY_SUFFIX.get(suffix.lower())


def by_content(data: bytes | mmap, path: Path) -> Codec | None:
    """The format of a file by its bytes, or None. The name only decides between formats that begin alike."""
    suffix = path.suffix.lower()
    return next((codec for codec in CODECS if codec.sniff(data, suffix)), None)


def written_suffix(source: Path) -> str:
    """The suffix of the clean file of ``source``: its own, or ``.tif`` for camera RAW, which is not written."""
    return source.suffix if source.suffix.lower() in WRITTEN else ".tif"


def is_missing(suffix: str) -> bool:
    """Whether a format needs a library that is not installed."""
    codec = by_suffix(suffix)
    return codec is not None and codec.library is not None and find_spec(codec.library) is None
