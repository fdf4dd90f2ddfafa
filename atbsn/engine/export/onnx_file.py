"""A network as an ONNX file: ``noisy`` in, ``denoised`` out."""

from pathlib import Path
from typing import Any

from atbsn.archs.base import Network
from atbsn.engine.export.graph import Interface, largest_difference, make_graph
from atbsn.utils.files import write_atomically

INTERFACE = Interface()


def export(net: Network, path: Path, metadata: dict[str, Any], half: bool = False) -> float:
    """Write ``net`` to ``path``; the largest difference that ONNX Runtime shows, in grey levels.

    Input ``noisy`` and output ``denoised`` are (B, C, H, W), RGB, float32 in [0, 255], the output not clipped. What the
    weights were trained for (statistics, padding, settings) is inside. Needs the extra ``[onnx]``.

    Args:
        half: as in ``make_graph``.

    Raises:
        UserError: the network cannot be exported, the packages are missing, the outputs differ, or ``path`` cannot be
            written. Then there is no file.
    """
    content = make_graph(net, INTERFACE, metadata, half).SerializeToString()
    difference = largest_difference(net, content, INTERFACE, half)
    write_atomically(path, lambda file: file.write(content))
    return difference
