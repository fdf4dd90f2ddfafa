"""How many operators a training step is on a GPU, and that nothing in it comes from the host.

Counted without a GPU: on the device ``meta``, whose tensors have shapes alone, methods go the ways that they go on one.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.methods import built
from helpers.recording import Operators
from torch import nn
from torch.utils._pytree import tree_leaves

from atbsn.archs import build_arch
from atbsn.archs.weights import save_weights
from atbsn.models import build_model
from atbsn.noise import NoiseModel
from atbsn.ops import ways
from atbsn.registry import MODELS

META = torch.device("meta")


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch has none on this device; nor are there values, of which a noise model reads one before its first draw."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(NoiseModel, "_swell_deviation", lambda self: 0.1)


def counted(model: nn.Module, side: int, batch: int = 2, device: torch.device = META) -> Operators:
    """The operators of the second step's losses and gradients: the first one fills what is kept."""
    model = model.train().to(device).to(memory_format=torch.channels_last)
    given = {
        "noisy": torch.zeros(batch, 3, side, side, device=device).to(memory_format=torch.channels_last),
        "index": torch.zeros(batch, dtype=torch.long, device=device),
    }
    progress = torch.zeros((), device=device)
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        with Operators() as operators:
            model(given, progress)["loss"].backward()
    return operators


def launches(operators: Operators) -> int:
    """Kernels that a GPU is told to run, about: operators whose result is new memory, or that write to memory.

    A convolution adds its bias in a kernel of its own; backward, it has one for each gradient. Memory alone is none,
    nor is the copy of a gradient that is only made since it is looked at here.
    """
    count = 0
    kept = {
        id(result) for function, _, _, result in operators.calls if function is torch.ops.aten.new_empty_strided.default
    }
    for function, args, kwargs, result in operators.calls:
        name = function.overloadpacket.__name__
        given = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}
        makes = any(tensor.untyped_storage()._cdata not in given for tensor in _tensors(result))
        if name == "copy_" and id(args[0]) in kept:
            continue
        if name in ("detach", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"):
            continue
        if name == "convolution":
            count += 1 + (args[2] is not None)
        elif name == "convolution_backward":
            count += sum(args[-1])
        else:
            count += function._schema.is_mutable or makes
    return count


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


@pytest.mark.parametrize("name", list(MODELS))
def test_nothing_comes_from_the_host(name: str, tmp_path: Path) -> None:
    """A tensor made in the step from numbers, or one of the CPU, would be copied at each, and keeps a graph away."""
    model, side = built(name, tmp_path, side=32)
    operators = counted(model, side)
    crossing = [
        str(function)
        for function, args, kwargs, result in operators.calls
        if {"cpu", "meta"} <= {tensor.device.type for tensor in _tensors((args, kwargs, result))}
        or function is torch.ops.aten.lift_fresh.default
    ]
    assert not crossing


def published(name: str, folder: Path) -> nn.Module:
    """The method with the published network and blind spots."""
    if name == "distillation":
        teacher = build_arch({"type": "ATBSN", "width": 2})
        save_weights(folder / "teacher.pth", teacher.state_dict(), {"network": teacher.options})
        method = {"type": "DistillModel", "teacher": str(folder / "teacher.pth")}
        return build_model(method, build_arch({"type": "StudentC", "width": 2}))
    if name == "random camera":
        return build_model({"type": "RenoiseModel"}, build_arch({"type": "PhotoNet", "widths": [4, 4, 4]}))
    kind, network = {"AT-BSN": ("BSNModel", "ATBSN"), "C-BSN": ("CBSNModel", "CBSN")}[name]
    return build_model({"type": kind}, build_arch({"type": network, "width": 2}))


@pytest.mark.skipif(torch.__version__ < "2.8", reason="PyTorch 2.6 launches two more, of its own")
@pytest.mark.parametrize(
    ("name", "side", "batch", "most"),
    [("AT-BSN", 256, 8, 212), ("distillation", 128, 8, 330), ("C-BSN", 120, 4, 925), ("random camera", 128, 8, 1150)],
)
def test_launches_a_step(
    name: str, side: int, batch: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are what an eager step costs where the network is light; whoever adds some has to raise the number.

    Of a CPU that goes a GPU's ways: what lies channels last in memory is then known, which ``meta`` does not keep.
    """
    monkeypatch.setattr(ways, "like_a_gpu", lambda device: True)
    assert launches(counted(published(name, tmp_path), side, batch, torch.device("cpu"))) <= most
