"""Denoising real photographs without clean targets: AT-BSN, its distilled students, and C-BSN.

Importing this package is cheap: nothing, not even torch, is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "build_arch": "atbsn.archs",
    "load": "atbsn.archs.weights",
    "load_weights": "atbsn.archs.weights",
    "denoise": "atbsn.engine.inference.picture",
}

__all__ = ["__version__", "build_arch", "denoise", "load", "load_weights"]

if TYPE_CHECKING:
    from atbsn.archs import build_arch
    from atbsn.archs.weights import load, load_weights
    from atbsn.engine.inference.picture import denoise


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'atbsn' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
