"""A network as a model of darktable's "neural restore" (5.6 and later): a ``.dtmodel``, which is a zip.

What darktable asks for, from its sources (``src/common/ai/``): a folder named as the model's id, in it ``config.json``
and ``model.onnx``; ``input`` and ``output`` float32 (1, 3, H, W), RGB with sRGB's curve, black 0 and white 1. It lays
square tiles of ``SIDES`` over the picture, each ``OVERLAP`` pixels larger on every side than what is taken from it,
with mirrored pixels beyond the picture's edges. Nothing is blended.
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
SIDES = (2048, 1536, 1024, 768, 512, 384, 256)
"""Pixels: the sides of darktable's tiles. It takes the largest for which its memory is enough."""
OVERLAP = 64
"""Pixels of a tile, on every side, of which nothing is taken."""
PREFIX = "denoise-"
"""darktable's ids begin with the task."""
SUFFIX = ".dtmodel"
_ID = re.compile(rf"{PREFIX}[a-z0-9]+(-[a-z0-9]+)*")
_VERSION = ".".join(__version__.split(".")[:2])
"""darktable compares two numbers."""
_PICTURE = (300, 420)
"""Height and width of the made-up picture that is denoised in tiles: two by three of the smallest."""
_STAMP = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can say: the same weights make the same file."""


@dataclass(frozen=True)
class Differences:
    """How far a model is from its network, grey levels of 255.

    Attributes:
        rounding: the largest between ONNX Runtime and PyTorch.
        tiles: the root mean square between darktable's smallest tiles and one pass over the picture.
    """

    rounding: float
    tiles: float


def model_id(name: str) -> str:
    """The id of the model that is made of weights called ``name``: ``denoise-atbsn-real`` of ``real``."""
    words = re.findall("[a-z0-9]+", name.lower())
    return "-".join((f"{PREFIX}atbsn", *words))


def export(net: Network, path: Path, metadata: Mapping[str, Any], half: bool = False) -> Differences:
    """Write ``net`` to ``path``, whose name, without ``.dtmodel``, becomes the model's id.

    Args:
        half: as in ``make_graph``.

    Raises:
        UserError: the network is not for RGB, needs the whole picture, or cannot be exported; the name is no id; the
            outputs differ, or ``path`` cannot be written. Then there is no file.
    """
    check(net, path)
    content = make_graph(net, INTERFACE, metadata, half).SerializeToString()
    rounding = largest_difference(net, content, INTERFACE, half)
    differences = Differences(rounding, _difference_of_tiles(net, content))
    packed = _pack(path.stem, _describe(path.stem, net, metadata), content)
    write_atomically(path, lambda file: file.write(packed))
    return differences


def check(net: Network, path: Path) -> None:
    """Raise a ``UserError`` unless ``net`` can be given to darktable under the name of ``path``."""
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
    """``picture`` (H, W, 3), float32 in [0, 1], through a graph as darktable lays it: (H, W, 3), not clipped.

    Args:
        session: of ONNX Runtime.
        side: of the tiles, pixels, one of ``SIDES``.
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
    """``count`` indices from ``start`` on into ``size`` pixels, reflected at both ends as often as needed."""
    period = max(1, 2 * (size - 1))
    indices = np.arange(start, start + count) % period
    return np.minimum(indices, period - indices) if size > 1 else np.zeros(count, int)


@torch.inference_mode()
def _difference_of_tiles(net: Network, content: bytes) -> float:
    """Root mean square of the smallest tiles against one pass, on a ramp with noise, grey levels.

    Nearly all of it lies along the picture's edges, beyond which darktable mirrors more than ``denoise`` does.
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
    """What ``config.json`` says. darktable shows the card to whoever asks what a model is."""
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
    """The zip: a folder named ``identifier`` with the two files."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        files = {"config.json": json.dumps(description, indent=2).encode() + b"\n", "model.onnx": graph}
        for name, content in files.items():
            entry = zipfile.ZipInfo(f"{identifier}/{name}", _STAMP)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
