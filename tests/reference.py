"""Weights that follow from a formula, and other things that tests against the authors' networks need."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn


def load_reference(folder: Path, stem: str) -> dict[str, Tensor]:
    """Inputs, outputs and draws of an authors' network, whatever is real in float64."""
    tensors = load_file(folder / f"{stem}.io.safetensors")
    return {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def fill_by_formula(net: nn.Module, folder: Path, stem: str, prefix: str = "") -> None:
    """Give ``net`` the weights of a reference at full width, which has no weight file.

    Each is drawn by a counter (SplitMix64) from the authors' name of it, ``prefix`` and ours.
    """
    with safe_open(folder / f"{stem}.io.safetensors", "pt") as file:
        formula = json.loads(file.metadata()["formula"])
    state = net.state_dict()
    net.load_state_dict({name: _draw(prefix + name, tensor.shape, **formula) for name, tensor in state.items()})


def _draw(name: str, shape: torch.Size, gain: float, bias: float, last: float, last_name: str) -> Tensor:
    number = np.arange(1, shape.numel() + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = np.uint64(zlib.crc32(name.encode())) + number * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    value = (z >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1
    part = name.rpartition(".")[2]
    if part in ("beta", "gamma", "temperature") or (part == "weight" and len(shape) == 1):
        value = 1 + 0.25 * value
    elif part == "bias":
        value = bias * value
    else:
        value = 3**0.5 * gain * value / (shape.numel() / shape[0]) ** 0.5
    if name.startswith(last_name):
        value = last * value
    return torch.from_numpy(value.astype(np.float16).astype(np.float32)).reshape(shape)


def gradient_norm(net: nn.Module) -> float:
    """L2 norm of the gradient over all parameters."""
    return sum(parameter.grad.square().sum() for parameter in net.parameters()).sqrt().item()


def influence(output: Tensor, x: Tensor, row: int, column: int) -> Tensor:
    """How much each pixel of ``x`` (B, 3, H, W) moves ``output`` at one place, (H, W): the largest of all pictures and
    channels. Give several pictures: a ReLU that is off hides what it sees."""
    seen = output[:, :, row, column] @ torch.tensor([0.7, -1.1, 1.3], dtype=output.dtype)
    (gradient,) = torch.autograd.grad(seen.sum(), x, retain_graph=True)
    return gradient.abs().amax(dim=(0, 1))
