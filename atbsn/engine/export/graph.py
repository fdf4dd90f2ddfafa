"""Export a network as an ONNX graph for pictures of any size, and compare the graph with the network."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.onnx.errors import OnnxExporterError

from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.engine.inference.finish import finish, split_settings
from atbsn.utils.errors import UserError, in_a_phrase

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""Packages that the extra ``[onnx]`` installs."""
MIN_TORCH = "2.8"
"""The oldest PyTorch that exports. The exporter of 2.6 makes graphs that ONNX Runtime refuses or cannot run, such as
C-BSN's and, with darktable's tiles, Student C's; 2.7 was not tried."""
SIZES = ((64, 64), (33, 150), (101, 47), (256, 192))
"""Pixels: heights and widths on which a graph is compared: multiples of 32 and others, even and odd. Chosen by hand."""
TOLERANCE = 1e-4
"""Largest accepted difference, relative to the largest output. Chosen by hand: float32 sums in another order differ by
less."""
HALF_TOLERANCE = 1e-2
"""The same with weights of 16 bits. Chosen by hand. Their significands are rounded from 24 to 11 bits: on drawn noise,
networks that were trained in 32 bits differ by some tenths of a grey level, and the shipped weights, which are stored
in 16 bits, not at all."""
_TRACED = (70, 90)
"""Pixels: height and width of the picture that is traced. The graph does not depend on them."""


@dataclass(frozen=True)
class Interface:
    """The input and output of a graph, as a program expects them.

    Attributes:
        noisy: name of the input, (B, C, H, W), RGB, float32.
        denoised: name of the output, of the same shape, not clipped.
        white: the value of white in both.
        one_picture: whether B has to be 1.
    """

    noisy: str = "noisy"
    denoised: str = "denoised"
    white: float = 255.0
    one_picture: bool = False


class Denoising(nn.Module):
    """The computation of ``Denoiser`` on one tile: the network's ``denoise`` and ``finish``, with its trained settings.

    ``module(noisy)``: (B, C, H, W), RGB, [0, ``white``] -> the same shape, not clipped.
    """

    def __init__(self, net: Network, white: float) -> None:
        super().__init__()
        self.net, self.white = net, white
        self.own, self.finishing = split_settings(type(net), net.denoise_settings)

    def forward(self, noisy: Tensor) -> Tensor:
        scale = 255 / self.white
        clean = finish(partial(self.net.denoise, **self.own), noisy * scale if scale != 1 else noisy, **self.finishing)
        return clean / scale if scale != 1 else clean


def check_exportable(net: Network) -> None:
    """Raise a ``UserError`` unless ``net`` needs one pass and no random numbers, PyTorch is new enough, and ``[onnx]``
    is installed."""
    if isinstance(net, BlindSpotNetwork):
        raise UserError(
            f"{type(net).__name__} runs its UNet four times for every picture; distil it (-opt distill.yml) and "
            "export the student"
        )
    if net.draws():
        raise UserError(
            f"{type(net).__name__} draws random numbers while it denoises, which a graph cannot; export another"
        )
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)}: not installed, and needed to export; pip install 'atbsn[onnx]'")
    if torch.__version__ < MIN_TORCH:  # a TorchVersion, which compares by number
        raise UserError(
            f"PyTorch {torch.__version__}: networks are exported with {MIN_TORCH} or newer; "
            "pip install -U torch torchvision"
        )


def make_graph(net: Network, interface: Interface, metadata: Mapping[str, Any], half: bool = False) -> "ModelProto":
    """Export ``Denoising`` of ``net`` as an ONNX model. Its height and width are free, and named so.

    Args:
        net: the network.
        interface: names and range of input and output.
        metadata: metadata of the weight file. With the network's options they become the model's metadata ``atbsn``.
        half: store the weights as float16, half the size. ONNX Runtime computes with them in float32.

    Raises:
        UserError: the network has a blind spot or an operation that ONNX lacks, or packages are missing or too old.
    """
    check_exportable(net)
    if half:
        _check_half(net)
    module = Denoising(net.cpu(), interface.white).eval()
    free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    batch = {} if interface.one_picture else {0: torch.export.Dim.DYNAMIC}
    noisy = torch.rand(1 if interface.one_picture else 2, net.channels, *_TRACED) * interface.white
    try:
        program = torch.onnx.export(
            module, (noisy,), input_names=[interface.noisy], output_names=[interface.denoised], dynamo=True,
            dynamic_shapes=(batch | free,), verbose=False,
        )  # fmt: skip
    except OnnxExporterError as error:
        raise UserError(f"{type(net).__name__} cannot be exported ({in_a_phrase(error)}); export another") from error
    assert program is not None, "with dynamo=True a program is returned"
    program.model.metadata_props["atbsn"] = json.dumps({**metadata, "network": net.options})
    model: ModelProto = program.model_proto
    _tidy(model.graph)
    if half:
        _halve(model.graph)
    return model


def _tidy(graph: "GraphProto") -> None:
    """Name the free dimensions of input and output, and remove records of how the graph was made.

    These records hold paths of this computer, and differ between two exports.
    """
    for value in (*graph.input, *graph.output):
        for dimension, name in zip(value.type.tensor_type.shape.dim, ("batch", "", "height", "width"), strict=True):
            if dimension.HasField("dim_param"):
                dimension.dim_param = name
    del graph.value_info[:]  # shapes in terms of the old names; programs infer them again
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")


def _check_half(net: Network) -> None:
    """Raise a ``UserError`` if a weight is too large for 16 bits."""
    largest = torch.finfo(torch.float16).max
    large = [name for name, weight in net.named_parameters() if weight.numel() and weight.abs().max() > largest]
    if large:
        raise UserError(f"{', '.join(large)}: numbers above {largest:.0f} do not fit into 16 bits; leave --half out")


def _halve(graph: "GraphProto") -> None:
    """Store the weights as float16, each with a cast to float32, which ONNX Runtime does once, when it opens a file."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue  # biases and constants are small, and 16 bits may not hold a constant
        name, values = tensor.name, numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def open_graph(content: bytes, sides: tuple[int, int] | None = None) -> Any:
    """Open a graph in ONNX Runtime, on the CPU.

    Args:
        content: content of the file.
        sides: height and width to which the free dimensions are fixed, as darktable does; None: they stay free.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: warnings are about optimisations
    for name, side in zip(("height", "width"), sides or (), strict=False):
        options.add_free_dimension_override_by_name(name, side)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@torch.inference_mode()
def largest_difference(net: Network, content: bytes, interface: Interface, half: bool = False) -> float:
    """The largest difference between ``net`` and its exported graph on pictures of several sizes, grey levels of 255.

    Raises:
        UserError: it is larger than rounding explains: of sums or, if ``half``, of the weights.
    """
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    session, module = open_graph(content), Denoising(net, interface.white)
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for number, sides in enumerate(SIZES):
        batch = 1 if interface.one_picture else 1 + number % 2
        noisy = torch.rand(batch, net.channels, *sides, generator=generator) * interface.white
        expected = module(noisy)
        output = torch.from_numpy(session.run([interface.denoised], {interface.noisy: noisy.numpy()})[0])
        difference = (output - expected).abs().max().item()
        if not difference <= tolerance * expected.abs().max().item():
            raise UserError(
                f"{tuple(noisy.shape)}: ONNX Runtime's output differs by {difference * 255 / interface.white:.3g} grey "
                "levels; nothing was written; try another version of torch, onnxscript or onnxruntime"
            )
        largest = max(largest, difference * 255 / interface.white)
    return largest
