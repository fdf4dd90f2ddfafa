"""Export a network as a model for darktable's "neural restore" (5.6 and later): a ``.dtmodel``, which is a zip file.

The format is taken from darktable's sources (``src/common/ai/``): a folder with the model's id as its name, in it
``config.json`` and ``model.onnx``. The graph's ``input`` and ``output`` are float32 (1, 3, H, W), RGB with sRGB's
curve, black 0 and white 1. darktable covers the picture with square tiles of one of ``SIDES``. Of every tile, a margin
of ``OVERLAP`` pixels is not used; beyond the picture's edges pixels are mirrored. Nothing is blended.
"""

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atbsn import __version__
from atbsn.archs.base import Network
from atbsn.engine.export.graph import Denoising, Interface, check_exportable, largest_difference, make_graph, open_graph
from atbsn.engine.inference.finish import is_local
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_atomically

INTERFACE = Interface("input", "output", white=1.0, one_picture=True)
"""The input and output of the graph that darktable expects."""
SIDES = (2048, 1536, 1024, 768, 512, 384, 256)
"""Pixels: the sides of darktable's tiles. It chooses the largest one for which its memory suffices."""
OVERLAP = 64
"""Pixels: margin of a tile, on every side, that is not used."""
PREFIX = "denoise-"
"""Beginning of a model's id: darktable's ids begin with the task."""
SUFFIX = ".dtmodel"
"""Suffix of darktable's models."""
_ID = re.compile(rf"{PREFIX}[a-z0-9]+(-[a-z0-9]+)*")
"""Form of an id."""
_VERSION = ".".join(__version__.split(".")[:2])
"""Version of the model: darktable compares two numbers."""
_PICTURE = (300, 420)
"""Pixels: height and width of the test picture that is denoised in tiles: two by three of the smallest tiles."""
_STAMP = (1980, 1, 1, 0, 0, 0)
"""Date of the files in the zip: the earliest possible one, so that the same weights give the same file."""


@dataclass(frozen=True)
class Differences:
    """How far the outputs of a model are from those of its network, grey levels of 255.

    Attributes:
        rounding: largest difference between ONNX Runtime and PyTorch.
        tiles: root mean square difference between darktable's smallest tiles and one pass over the picture.
    """

    rounding: float
    tiles: float


def model_id(name: str) -> str:
    """The id of the model for weights called ``name``: ``denoise-atbsn-real`` for ``real``."""
    words = re.findall("[a-z0-9]+", name.lower())
    return "-".join((f"{PREFIX}atbsn", *words))


def export(net: Network, path: Path, metadata: Mapping[str, Any], half: bool = False) -> Differences:
    """Write ``net`` to ``path``. The name of the file without ``.dtmodel`` becomes the model's id.

    Args:
        net: the network.
        path: the file.
        metadata: metadata of the weight file.
        half: as in ``make_graph``.

    Raises:
        UserError: the network is not for RGB, needs the whole picture, or cannot be exported; the name is not an id;
            the outputs of model and network differ; or ``path`` cannot be written. Then there is no file.
    """
    check(net, path)
    content = make_graph(net, INTERFACE, metadata, half).SerializeToString()
    rounding = largest_difference(net, content, INTERFACE, half)
    differences = Differences(rounding, _difference_of_tiles(net, content))
    packed = _pack(path.stem, _describe(path.stem, net, metadata), content)
    write_atomically(path, lambda file: file.write(packed))
    return differences


def check(net: Network, path: Path) -> None:
    """Raise a ``UserError`` unless ``net`` can become a model for darktable with the name of ``path``."""
    if path.suffix != SUFFIX or not _ID.fullmatch(path.stem):
        raise UserError(
            f"{path.name}: no name for a model of darktable; it is {PREFIX}, then small letters, digits and hyphens, "
            f"then {SUFFIX}, such as {model_id('real')}{SUFFIX}"
        )
    check_exportable(net)
    if net.channels != 3:
        raise UserError(f"{type(net).__name__} is for {net.channels} channels, and darktable gives RGB; take another")
    if not (net.is_local() and is_local(net.denoise_settings)):
        raise UserError(
            f"{type(net).__name__} looks at the whole picture, and darktable gives it tiles; distil it or take another"
        )


def in_tiles(session: Any, picture: np.ndarray, side: int) -> np.ndarray:
    """Denoise ``picture`` with a graph in the tiles that darktable uses.

    Args:
        session: the graph in ONNX Runtime.
        picture: (H, W, 3), float32 in [0, 1].
        side: side of the tiles, pixels, one of ``SIDES``.

    Returns:
        (H, W, 3), not clipped.
    """
    height, width = picture.shape[:2]
    step = side - 2 * OVERLAP
    output = np.empty_like(picture)
    for top in range(0, height, step):
        rows = _mirrored(top - OVERLAP, side, height)
        for left in range(0, width, step):
            tile = picture[np.ix_(rows, _mirrored(left - OVERLAP, side, width))]
            noisy = np.ascontiguousarray(tile.transpose(2, 0, 1)[None])
            clean = session.run([INTERFACE.denoised], {INTERFACE.noisy: noisy})[0][0].transpose(1, 2, 0)
            inside = clean[OVERLAP : OVERLAP + step, OVERLAP : OVERLAP + step]
            place = output[top : top + step, left : left + step]
            place[:] = inside[: place.shape[0], : place.shape[1]]
    return output


def _mirrored(start: int, count: int, size: int) -> np.ndarray:
    """``count`` indices from ``start`` on, reflected into 0 to ``size`` - 1 at both ends as often as needed."""
    period = max(1, 2 * (size - 1))
    indices = np.arange(start, start + count) % period
    return np.minimum(indices, period - indices) if size > 1 else np.zeros(count, int)


@torch.inference_mode()
def _difference_of_tiles(net: Network, content: bytes) -> float:
    """Root mean square difference between the smallest tiles and one pass, on a ramp with noise, grey levels.

    Nearly all of it is at the picture's edges, where darktable mirrors more pixels than ``denoise`` does.
    """
    side = SIDES[-1]
    height, width = _PICTURE
    generator = np.random.default_rng(0)
    ramp = np.linspace(0.2, 0.8, width, dtype=np.float32)[None, :, None]
    noise = generator.standard_normal((height, width, 3), np.float32) * 0.05  # 13 grey levels, as at high ISO
    picture = np.clip(ramp + noise, 0, 1)
    whole = Denoising(net, INTERFACE.white)(torch.from_numpy(picture.transpose(2, 0, 1)[None].copy()))
    tiles = in_tiles(open_graph(content, (side, side)), picture, side)
    return 255 * float(np.sqrt(np.mean((whole[0].numpy().transpose(1, 2, 0) - tiles) ** 2)))


def _describe(identifier: str, net: Network, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``config.json``. darktable shows the model card to its users."""
    card = {
        "long_description": "Denoises developed photographs. Trained without clean targets by atbsn.",
        "scope": "single-image denoising",
        "author": "atbsn",
        "license": metadata.get("terms"),
        "training_data": metadata.get("data"),
        "notes": f"network {type(net).__name__}" + (f", method {metadata['method']}" if "method" in metadata else ""),
    }
    sizes = {"input_sizes": [SIDES[-1]]} if net.sees_whole_tile else {}  # larger ones than it was trained on
    return {
        "id": identifier,
        "name": identifier.replace("-", " "),
        "description": "denoiser for photographs, trained without clean targets",
        "task": "denoise",
        "arch": "generic",
        "backend": "onnx",
        "version": _VERSION,
        "tiling": True,
        "num_inputs": 1,
        "spatial_dims": ["height", "width"],
        "attributes": sizes,
        "model_card": {name: text for name, text in card.items() if text},
    }


def _pack(identifier: str, description: Mapping[str, Any], graph: bytes) -> bytes:
    """The content of the zip file: a folder named ``identifier`` with two files."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        files = {"config.json": json.dumps(description, indent=2).encode() + b"\n", "model.onnx": graph}
        for name, content in files.items():
            entry = zipfile.ZipInfo(f"{identifier}/{name}", _STAMP)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
