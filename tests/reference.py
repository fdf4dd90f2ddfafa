"""Weights that follow from a formula, and other things that tests against the authors' networks need."""

import json
from pathlib import Path

import golden
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
    net.load_state_dict({name: golden.weight(prefix + name, tensor.shape, formula) for name, tensor in state.items()})


def gradient_norm(net: nn.Module) -> float:
    """L2 norm of the gradient over all parameters."""
    return sum(parameter.grad.square().sum() for parameter in net.parameters()).sqrt().item()


def influence(output: Tensor, x: Tensor, row: int, column: int) -> Tensor:
    """How much each pixel of ``x`` (B, 3, H, W) moves ``output`` at one place, (H, W): the largest of all pictures and
    channels. Give several pictures: a ReLU that is off hides what it sees."""
    seen = output[:, :, row, column] @ torch.tensor([0.7, -1.1, 1.3], dtype=output.dtype)
    (gradient,) = torch.autograd.grad(seen.sum(), x, retain_graph=True)
    return gradient.abs().amax(dim=(0, 1))
