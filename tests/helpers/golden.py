"""Golden data of the authors' own networks: weights, inputs and outputs in files, weights by formula where there is no
file, and what tests against them need."""

import json
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

Shapes = dict[str, torch.Size]
"""Shapes of tensors by name."""


def read(folder: Path, stem: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights under the authors' names, float32, and what their network makes of its inputs."""
    weights = load_file(folder / f"{stem}.weights.safetensors")
    return {name: tensor.float() for name, tensor in weights.items()}, load_file(folder / f"{stem}.io.safetensors")


def read_full(folder: Path, stem: str, shapes: Shapes) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """As ``read`` where weights follow from the formula, for tensors of these names (the authors') and shapes."""
    return _drawn(folder, stem, shapes), load_file(folder / f"{stem}.io.safetensors")


def read_double(folder: Path, stem: str) -> dict[str, Tensor]:
    """Inputs, outputs and draws of the authors' network, whatever is real in float64."""
    tensors = load_file(folder / f"{stem}.io.safetensors")
    return {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def fill(net: nn.Module, folder: Path, stem: str, prefix: str = "") -> None:
    """Give ``net`` the weights of a network at full width, which has no weight file.

    Each follows from the authors' name of it, ``prefix`` and ours.
    """
    weights = _drawn(folder, stem, {prefix + name: shape for name, shape in shapes(net).items()})
    net.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in weights.items()})


def _drawn(folder: Path, stem: str, shapes: Shapes) -> dict[str, Tensor]:
    """Weights that follow from the formula in a file."""
    with safe_open(folder / f"{stem}.io.safetensors", "pt") as file:
        formula = json.loads(file.metadata()["formula"])
    return {name: _weight(name, shape, formula) for name, shape in shapes.items()}


def _weight(name: str, shape: torch.Size, formula: dict[str, Any]) -> Tensor:
    """One tensor, drawn by a counter (SplitMix64) that starts from a hash of its name."""
    with np.errstate(over="ignore"):
        count = np.arange(1, shape.numel() + 1, dtype=np.uint64)
        z = np.uint64(crc32(name.encode())) + count * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    v = (z >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1
    part = name.rpartition(".")[2]
    if part in ("beta", "gamma", "temperature") or (part == "weight" and len(shape) == 1):
        w = 1 + 0.25 * v
    elif part == "bias":
        w = formula["bias"] * v
    else:
        w = np.sqrt(3) * formula["gain"] * v / np.sqrt(shape.numel() / shape[0])
    if name.startswith(formula["last_name"]):
        w = w * formula["last"]
    return torch.from_numpy(w.astype(np.float16).astype(np.float32)).view(shape)


def shapes(net: nn.Module) -> Shapes:
    """Names and shapes of a network's state dict."""
    return {name: tensor.shape for name, tensor in net.state_dict().items()}


def assert_gradients(net: nn.Module, loss: Tensor, norm: Tensor, parts: dict[str, Tensor]) -> None:
    """The gradient of ``loss``: its norm over all parameters, and some of its ``parts`` by our names."""
    parameters = dict(net.named_parameters())
    gradients = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
    total = torch.stack([gradient.double().square().sum() for gradient in gradients.values()]).sum().sqrt()
    torch.testing.assert_close(total, norm[0], rtol=1e-3, atol=0)
    for name, expected in parts.items():
        scale = expected.abs().max().item()
        torch.testing.assert_close(gradients[name], expected, rtol=1e-3, atol=1e-4 * scale, msg=name)
