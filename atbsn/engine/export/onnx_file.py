"""Export a network as an ONNX file with the input ``noisy`` and the output ``denoised``."""

from pathlib import Path
from typing import Any

from atbsn.archs.base import Network
from atbsn.engine.export.graph import Interface, largest_difference, make_graph
from atbsn.utils.files import write_atomically

INTERFACE = Interface()
"""The input and output of the graph: [0, 255], any number of pictures."""


def export(net: Network, path: Path, metadata: dict[str, Any], half: bool = False) -> float:
    """Write ``net`` to ``path``; returns the largest difference between ONNX Runtime and PyTorch, grey levels.

    Input ``noisy`` and output ``denoised`` are (B, C, H, W), RGB, float32 in [0, 255], the output not clipped. The
    graph includes statistics, padding and the settings that the weights were trained for. Needs the extra ``[onnx]``.

    Args:
        net: the network.
        path: the file.
        metadata: metadata of the weight file.
        half: as in ``make_graph``.

    Raises:
        UserError: the network cannot be exported, the packages are missing, the outputs differ, or ``path`` cannot be
            written. Then there is no file.
    """
    content = make_graph(net, INTERFACE, metadata, half).SerializeToString()
    difference = largest_difference(net, content, INTERFACE, half)
    write_atomically(path, lambda file: file.write(content))
    return difference
