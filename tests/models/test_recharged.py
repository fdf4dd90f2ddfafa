"""Distillation with recharged targets, and of teachers that are not AT-BSN's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from atbsn.archs import build_arch
from atbsn.archs.base import Network
from atbsn.archs.weights import load, save_weights
from atbsn.models import build_model
from atbsn.ops.recharge import recharge
from atbsn.utils.errors import UserError

TEACHERS = {
    "TMBSN": ({"type": "TMBSN", "width": 4, "num_blocks": 1}, (2, 3, 4, 5, 6)),
    "APRBSN": ({"type": "APRBSN", "width": 2}, (0, 1, 3, 5, 7, 9)),
    "ATBSN": ({"type": "ATBSN", "width": 2}, (0, 3)),
}


@pytest.fixture(params=TEACHERS)
def distillation(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The options of a method, with a teacher in a file; and the file."""
    torch.manual_seed(0)
    options, ks = TEACHERS[request.param]
    teacher = build_arch(options)
    path = tmp_path / "teacher.pth"
    save_weights(path, teacher.state_dict(), {"network": teacher.options})
    return {"type": "DistillModel", "teacher": str(path), "ks": list(ks), "loss": "recharged"}


def student() -> Network:
    torch.manual_seed(1)
    return build_arch({"type": "NBSN", "width": 4})


def test_is_the_sum_over_the_recharged_teachers_as_they_denoise(distillation: dict[str, Any]) -> None:
    model = build_model(distillation, student())
    noisy = torch.rand(2, 3, 32, 32) * 255
    teacher: Any = load(distillation["teacher"])
    ks = distillation["ks"]
    with torch.no_grad():
        targets = torch.stack([teacher.denoise(noisy, k=k) for k in ks])
    torch.manual_seed(2)
    losses = model({"noisy": noisy}, torch.tensor(0.0))
    torch.manual_seed(2)
    expected = sum(F.l1_loss(model.net(noisy), target) for target in recharge(targets, noisy))
    torch.testing.assert_close(losses["loss"], expected)
    assert list(losses) == ["loss", *(f"k{k}" for k in ks)]
    losses["loss"].backward()
    assert all(parameter.grad.any() for parameter in model.net.parameters())
    torch.manual_seed(3)
    assert model({"noisy": noisy}, torch.tensor(0.0))["loss"] != losses["loss"]


def test_is_one_graph(distillation: dict[str, Any]) -> None:
    model = build_model(distillation, student()).to(memory_format=torch.channels_last)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    noisy = torch.rand(1, 3, 32, 32).mul(255).contiguous(memory_format=torch.channels_last)
    assert compiled({"noisy": noisy}, torch.tensor(0.0))["loss"].isfinite()


def test_holes_are_the_teachers(distillation: dict[str, Any]) -> None:
    wrong = {**distillation, "ks": [0, -1]}
    with pytest.raises(UserError, match=r"model.ks: k = -1"):
        build_model(wrong, student())
