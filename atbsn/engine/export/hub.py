"""Export a network as a folder for the Hugging Face hub: weights, a description, a model card."""

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from atbsn import __version__
from atbsn.archs.base import Network
from atbsn.archs.hub import DESCRIPTION, WEIGHTS
from atbsn.archs.shipped import shipped_weights
from atbsn.archs.weights import save_weights
from atbsn.utils.errors import UserError
from atbsn.utils.files import cannot_write, write_text

CARD = "README.md"
"""Name of the model card."""
_TOLD = (
    "network", "denoise", "noise", "patch_size", "iteration", "seed", "batch_size", "dataset", "method", "model",
    "data", "terms", "trained_for",
)  # fmt: skip
"""Metadata that are exported. The others describe the computer of the training."""
_ROWS = {
    "data": "trained on", "dataset": "data set", "method": "method", "model": "method", "iteration": "iterations",
    "trained_for": "trained for", "terms": "terms",
}  # fmt: skip
"""Metadata that the card shows, and their titles."""


def export(net: Network, folder: Path, metadata: Mapping[str, Any], name: str) -> str:
    """Write ``folder`` with ``model.safetensors``, ``config.json`` and ``README.md``; returns the weights' checksum.

    The folder is written completely or not at all. Weights that 16 bits hold without loss are stored in 16 bits.

    Args:
        net: the network.
        folder: the new folder.
        metadata: metadata of the weight file.
        name: name of the weights. The model card of shipped weights is included.

    Raises:
        UserError: the folder is there already, or cannot be written.
    """
    if folder.exists():
        raise UserError(f"{folder}: is there already; name another folder, or remove it")
    told = {key: metadata[key] for key in _TOLD if metadata.get(key) is not None}
    told |= {"network": net.options, "denoise": net.denoise_settings}
    aside = folder.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        aside.mkdir(parents=True)
        save_weights(aside / WEIGHTS, _short(net.state_dict()), told)
        checksum = hashlib.sha256((aside / WEIGHTS).read_bytes()).hexdigest()
        described = {"library_name": "atbsn", **told, "sha256": checksum}
        write_text(aside / DESCRIPTION, json.dumps(described, indent=2) + "\n")
        write_text(aside / CARD, _card(net, told, name, folder.name, checksum))
        aside.rename(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return checksum


def _short(params: dict[str, Tensor]) -> dict[str, Tensor]:
    """``params`` with float16 in place of float32, if all numbers stay the same."""
    floats = {name: tensor for name, tensor in params.items() if tensor.is_floating_point()}
    halves = {name: tensor.half() for name, tensor in floats.items()}
    lossless = all(bool((halves[name].to(tensor.dtype) == tensor).all()) for name, tensor in floats.items())
    return {**params, **halves} if lossless else params


def _card(net: Network, told: Mapping[str, Any], name: str, folder: str, checksum: str) -> str:
    """The model card: metadata for the hub (YAML), a description of the weights, and how to use them."""
    shipped = shipped_weights().get(name)
    licence = ""
    if "terms" in told:
        licence = f"license: {'apache-2.0' if str(told['terms']).startswith('Apache-2.0') else 'other'}\n"
    repository = f"hf:OWNER/{folder}"
    rows = {"network": f"{type(net).__name__}, {sum(weight.numel() for weight in net.parameters()):,} parameters"}
    rows |= {word: str(told[key]).replace("|", "/") for key, word in _ROWS.items() if key in told}
    rows |= {"settings": json.dumps(told["denoise"])} if told["denoise"] else {}
    rows |= {"sha256": f"`{checksum}`", "written by": f"atbsn {__version__}"}
    table = "\n".join(f"| {word} | {text} |" for word, text in rows.items())
    return f"""\
---
{licence}library_name: atbsn
pipeline_tag: image-to-image
tags:
- denoising
- image-restoration
- photography
---

# {folder}

Takes the noise out of photographs. Made with `atbsn`, which trains denoisers on noisy pictures.

| | |
|---|---|
{table}

## Use

```bash
pip install "atbsn[hub]"
atbsn denoise photo.jpg --weights {repository}
```

```python
import atbsn

net = atbsn.load("{repository}")  # {repository}@COMMIT: this very version
clean = atbsn.denoise(net, image)  # (H, W, {net.channels}), 8 or 16 bits or float
```
{_of_the_card(shipped)}"""


def _of_the_card(shipped: Path | None) -> str:
    """The text of the card of shipped weights, without its title; empty for other weights."""
    if shipped is None or not shipped.with_suffix(".md").is_file():
        return ""
    text = shipped.with_suffix(".md").read_text(encoding="utf-8").split("\n", 1)[1].strip()
    return f"\n## The weights\n\n{text}\n"
