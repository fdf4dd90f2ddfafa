"""A description of the weights and settings that results were made with. It is stored beside the results."""

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

from atbsn.archs.shipped import find_weights
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.provenance import file_sha256


def describe_denoiser(denoiser: Denoiser, weights: str | Path | None) -> dict[str, Any]:
    """Describe a denoiser by plain values that YAML and JSON can hold.

    Args:
        weights: the file of its network's weights, or the name of shipped ones.
    """
    return {
        "weights": None if weights is None else str(weights),
        "sha256": None if weights is None else file_sha256(find_weights(weights)),
        "network": denoiser.net.options,
        "denoise": dict(denoiser.settings),
        "precision": denoiser.precision,
        "tile": _tile(denoiser),
        "overlap": denoiser.asked.overlap,
        "self_ensemble": denoiser.self_ensemble,
    }


def _tile(denoiser: Denoiser) -> int | str | None:
    """Side of the tiles, pixels. A GPU chooses it by its free memory; then it is no setting, and ``auto`` is noted."""
    asked = denoiser.asked
    if asked.tile == "auto":
        return "auto" if denoiser.device.type == "cuda" else asked.usual_tile
    return None if asked.tile == "none" else asked.tile


def fingerprint(description: dict[str, Any]) -> str:
    """A checksum, 16 hexadecimal digits, of a ``describe_denoiser`` without the name of the weight file."""
    told = {key: value for key, value in description.items() if key != "weights"}
    return blake2b(json.dumps(told, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()
