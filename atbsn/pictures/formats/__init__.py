"""The table of picture formats: every module of this folder with a ``CODEC``."""

from importlib import import_module
from importlib.util import find_spec
from mmap import mmap
from pathlib import Path
from pkgutil import iter_modules

from atbsn.pictures.formats.codec import Codec, Holds

__all__ = [
    "CODECS", "KINDS", "RAW", "SUFFIXES", "WRITTEN", "Codec", "Holds", "by_content", "by_suffix", "is_missing",
    "written_suffix",
]  # fmt: skip


def _found() -> tuple[Codec, ...]:
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    codecs = [module.CODEC for module in modules if hasattr(module, "CODEC")]
    return tuple(sorted(codecs, key=lambda codec: not codec.asked_first))


CODECS = _found()
_BY_SUFFIX = {suffix: codec for codec in CODECS for suffix in codec.suffixes}
SUFFIXES = frozenset(_BY_SUFFIX)
WRITTEN = frozenset(suffix for suffix, codec in _BY_SUFFIX.items() if codec.writes)
RAW = SUFFIXES - WRITTEN
"""Camera RAW: read, never written; the developed picture is a TIFF of 16 bits."""

_PLAIN = sorted(codec.name for codec in CODECS if codec.library is None)
KINDS = f"{', '.join(_PLAIN[:-1])} or {_PLAIN[-1]}"
"""What is read without an extra, in words."""


def by_suffix(suffix: str) -> Codec | None:
    """The format of a file name's suffix, of any case."""
    return _BY_SUFFIX.get(suffix.lower())


def by_content(data: bytes | mmap, path: Path) -> Codec | None:
    """The format of a file by its bytes; its name only tells apart what begins alike."""
    suffix = path.suffix.lower()
    return next((codec for codec in CODECS if codec.sniff(data, suffix)), None)


def written_suffix(source: Path) -> str:
    """The suffix of the clean file of ``source``: its own, and ``.tif`` for what is only read, camera RAW."""
    return source.suffix if source.suffix.lower() in WRITTEN else ".tif"


def is_missing(suffix: str) -> bool:
    """Whether a format needs a library that is not installed."""
    codec = by_suffix(suffix)
    return codec is not None and codec.library is not None and find_spec(codec.library) is None
