"""RenoiseModel: the random camera is part of what a GPU compiles and captures."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from atbsn.archs import build_arch
from atbsn.models.renoise import RenoiseModel
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.likeness import cameras_like
from atbsn.noise.prior import CameraPrior

KINDS: dict[str, tuple[int, dict[str, Any]]] = {
    "camera": (3, {}),
    "table": (3, {}),
    "raw": (4, {"raw": True}),
    "sensor": (1, {}),
}


def few_cameras() -> CameraTable:
    clean = torch.full((3, 64, 64), 120.0)
    noisy = clean + 8 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    return cameras_like([(noisy, clean)], CameraPrior(), keep=2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_camera_and_the_loss_are_one_graph_that_is_compiled_once(kind: str, tmp_path: Path) -> None:
    channels, arguments = KINDS[kind]
    if kind == "table":
        few_cameras().write(tmp_path / "cameras.json")
        arguments = {"cameras": str(tmp_path / "cameras.json")}
    net = build_arch({"type": "PhotoNet", "widths": [4], "blocks": 1, "middle_blocks": 1, "channels": channels})
    model = RenoiseModel(net, **arguments).train()
    batches = [{"noisy": 255 * torch.rand(2, 3 if kind == "raw" else channels, 32, 32)} for _ in range(2)]

    def losses() -> list[float]:
        torch.manual_seed(1)
        return [model(batch, torch.tensor(at))["loss"].item() for batch, at in zip(batches, (0.1, 0.9), strict=True)]

    plain = losses()
    backend = CompileCounterWithBackend("eager")
    torch._dynamo.reset()
    model.compile(backend=backend, fullgraph=True)
    assert losses() == pytest.approx(plain, rel=1e-4)
    assert backend.frame_count == 1


@pytest.mark.parametrize(("loss", "expected"), [("l1", 6.0), ("psnr", math.log(1 + 36) / 2)])
def test_the_loss_is_the_one_that_is_asked_for(loss: Any, expected: float) -> None:
    """The network is the identity, and the camera adds 6 grey values."""
    net = build_arch({"type": "PhotoNet", "widths": [4], "blocks": 1, "middle_blocks": 1})
    model: Any = RenoiseModel(net, loss=loss)
    model.camera = lambda pictures: (pictures + 6, pictures)
    losses = model.losses({"noisy": torch.full((2, 3, 32, 32), 100.0)}, torch.tensor(0.0))
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-4)
    assert ("mse" in losses) == (loss == "psnr")


def test_mosaics_are_made_of_photographs() -> None:
    net = build_arch({"type": "PhotoNet", "widths": [4], "blocks": 1, "middle_blocks": 1, "channels": 4})
    assert RenoiseModel(net, raw=True).picture_channels == 3
