"""A network as an ONNX graph, for pictures of any size, compared with it in ONNX Runtime before it is given away."""

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
"""What the extra ``[onnx]`` installs."""
SIZES = ((64, 64), (33, 150), (101, 47), (256, 192))
"""Heights and widths on which a graph is compared: multiples of 32 and not, even and odd."""
TOLERANCE = 1e-4
"""Largest difference, relative to the largest output: float32 sums in another order."""
HALF_TOLERANCE = 1e-2
"""The same with weights of 16 bits, which are rounded to 11 bits of 24: made-up noise shows some tenths of a grey level
of networks that were trained in 32 bits, and nothing of the shipped weights, whose numbers have 16 bits."""
_TRACED = (70, 90)
"""Height and width of the picture that is traced; which, is not seen in the graph."""


@dataclass(frozen=True)
class Interface:
    """What a program gives a graph and takes from it.

    Attributes:
        noisy: name of the input, (B, C, H, W), RGB, float32.
        denoised: name of the output, of the same shape, not clipped.
        white: the value of white.
        one_picture: B is 1, instead of any number.
    """

    noisy: str = "noisy"
    denoised: str = "denoised"
    white: float = 255.0
    one_picture: bool = False


class Denoising(nn.Module):
    """What ``Denoiser`` does with one tile: the network's ``denoise`` and ``finish``, with what its file says.

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
    """Raise a ``UserError`` unless ``net`` takes one pass and draws nothing, and the extra ``[onnx]`` is there."""
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


def make_graph(net: Network, interface: Interface, metadata: Mapping[str, Any], half: bool = False) -> "ModelProto":
    """``Denoising`` of ``net`` as an ONNX model whose height and width are free and so called: ``height``, ``width``.

    Args:
        metadata: of the weight file; they stand, with the network's options, in the model's metadata (``atbsn``).
        half: the weights are stored as numbers of 16 bits, half the size, and computed with as float32.

    Raises:
        UserError: the network has a blind spot or an operation that ONNX lacks, or the packages are missing.
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
            dynamic_shapes={"noisy": batch | free}, verbose=False,
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
    """Name what a program may fix, and leave out how the graph was made: paths on this computer, differently each time.

    The free dimensions of the input and output are called what they are.
    """
    for value in (*graph.input, *graph.output):
        for dimension, name in zip(value.type.tensor_type.shape.dim, ("batch", "", "height", "width"), strict=True):
            if dimension.HasField("dim_param"):
                dimension.dim_param = name
    del graph.value_info[:]  # shapes in terms of the old names, which every program infers anew
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
    """Store the weights as float16, each followed by a cast, which ONNX Runtime does once, when it opens the file."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue  # biases and constants are few, and a constant may be one that 16 bits cannot say
        name, values = tensor.name, numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def open_graph(content: bytes, sides: tuple[int, int] | None = None) -> Any:
    """The graph in ONNX Runtime, on the CPU.

    Args:
        content: of the file.
        sides: height and width to which the free dimensions are fixed, as darktable does.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: warnings are about optimisations
    for name, side in zip(("height", "width"), sides or (), strict=False):
        options.add_free_dimension_override_by_name(name, side)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@torch.inference_mode()
def largest_difference(net: Network, content: bytes, interface: Interface, half: bool = False) -> float:
    """The largest difference between ``net`` and its exported graph on pictures of several sizes, grey levels.

    Raises:
        UserError: it is more than rounding, of sums or, if ``half``, of the weights.
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
