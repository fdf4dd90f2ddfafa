"""How many operators a training step is on a GPU, and that nothing in it comes from the host.

Counted without a GPU: on the device ``meta``, whose tensors have shapes alone, methods go the ways that they go on one.
"""

from contextlib import nullcontext

import pytest
import torch
from methods import built
from recording import Operators
from torch.utils._pytree import tree_leaves

from atbsn.archs import build_arch
from atbsn.archs.weights import save_weights
from atbsn.models import build_model
from atbsn.noise import NoiseModel
from atbsn.registry import MODELS

META = torch.device("meta")


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch):
    """PyTorch has none on this device; nor are there values, of which a noise model reads one before its first draw."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(NoiseModel, "_swell_deviation", lambda self: 0.1)


def counted(model, side, batch=2):
    """The operators of the second step's losses and gradients: the first one fills what is kept."""
    model = model.train().to(META)
    given = {
        "noisy": torch.empty(batch, 3, side, side, device=META),
        "index": torch.empty(batch, dtype=int, device=META),
    }
    progress = torch.empty((), device=META)
    for _ in range(2):
        with Operators() as operators:
            model(given, progress)["loss"].backward()
    return operators


def launches(operators):
    """Operators whose result is new memory, or that write to memory: what a GPU is told to do."""
    count = 0
    for function, args, kwargs, result in operators.calls:
        given = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}
        writes = function._schema.is_mutable
        if function is not torch.ops.aten.detach.default and (
            writes or any(tensor.untyped_storage()._cdata not in given for tensor in _tensors(result))
        ):
            count += 1
    return count


def _tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


@pytest.mark.parametrize("name", list(MODELS))
def test_nothing_comes_from_the_host(name, tmp_path):
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


def published(name, folder):
    """The method with the published network and blind spots."""
    if name == "distillation":
        teacher = build_arch({"type": "ATBSN", "width": 2})
        save_weights(folder / "teacher.pth", teacher.state_dict(), {"network": teacher.options})
        method = {"type": "DistillModel", "teacher": str(folder / "teacher.pth")}
        return build_model(method, build_arch({"type": "StudentC", "width": 2}))
    method, network = {"AT-BSN": ("BSNModel", "ATBSN"), "C-BSN": ("CBSNModel", "CBSN")}[name]
    return build_model({"type": method}, build_arch({"type": network, "width": 2}))


@pytest.mark.parametrize(
    ("name", "side", "batch", "most"), [("AT-BSN", 256, 8, 239), ("distillation", 128, 8, 434), ("C-BSN", 120, 4, 849)]
)
def test_launches_a_step(name, side, batch, most, tmp_path):
    """They are what an eager step costs where the network is light; whoever adds some has to raise the number."""
    assert launches(counted(published(name, tmp_path), side, batch)) <= most
