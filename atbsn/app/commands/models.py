"""``atbsn models``: list the shipped weights and the user's own."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atbsn.archs.shipped import shipped_weights
from atbsn.archs.weight_files import read_header
from atbsn.archs.weights import read_weights
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger

_COLUMNS = ("name", "network", "parameters", "trained on", "terms", "size")
"""Titles of the table."""


def main(arguments: Namespace) -> None:
    shipped = shipped_weights()
    own = sorted(Path(arguments.root).glob("experiments/**/models/net_*.pth"))
    own = [path for path in own if path.stem in ("net_latest", "net_best")]
    rows = [_row(name, path) for name, path in shipped.items()] + [_row(str(path), path) for path in own]
    if not shipped:
        logger.info("no weights are shipped with this installation")
    if rows:
        logger.info("%s", _table([_COLUMNS, *rows]))
    if not own:
        logger.info("none of your own under %s", Path(arguments.root) / "experiments")


def _row(name: str, path: Path) -> tuple[str, ...]:
    """One line of the table. For a file that cannot be read it says so."""
    try:
        parameters, metadata = read_header(path) if path.suffix == ".safetensors" else _contents(path)
    except UserError:
        return (name, "cannot be read", "", "", "", _size(path))
    network = metadata.get("network")
    kind = network.get("type", "?") if isinstance(network, Mapping) else "?"
    data = str(metadata.get("data") or metadata.get("dataset") or "?")
    return (name, str(kind), f"{parameters:,}", data, str(metadata.get("terms") or "those of its data"), _size(path))


def _contents(path: Path) -> tuple[int, dict[str, Any]]:
    weights = read_weights(path)
    return sum(tensor.numel() for tensor in weights.params.values()), weights.metadata


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
