"""What a run says of itself, and by which settings it is known again."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from atbsn.archs import build_arch
from atbsn.archs.weights import save_weights
from atbsn.engine.inference.about import _tile, describe_denoiser, fingerprint
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.plan import ComputeOptions
from atbsn.engine.provenance import file_sha256


def denoiser(tile: int) -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(
        build_arch({"type": "StudentC", "width": 2}).eval(), {}, torch.device("cpu"), ComputeOptions(tile=tile)
    )


@pytest.mark.parametrize(
    ("device", "tile", "said"),
    [("cpu", "auto", 256), ("cuda", "auto", "auto"), ("cpu", "none", None), ("cuda", 96, 96), ("cpu", 96, 96)],
)
def test_a_gpu_chooses_its_tiles_and_a_cpu_has_usual_ones(device: str, tile: Any, said: int | str | None) -> None:
    asking: Any = SimpleNamespace(device=torch.device(device), asked=ComputeOptions(tile=tile))
    assert _tile(asking) == said


def test_the_fingerprint_is_that_of_weights_and_settings_and_not_of_the_files_name(tmp_path: Path) -> None:
    paths = [tmp_path / "a.pth", tmp_path / "b.pth"]
    for path in paths:
        save_weights(path, denoiser(64).net.state_dict(), {})
    first, second = (describe_denoiser(denoiser(64), path) for path in paths)
    assert first["weights"] == str(paths[0]) and first["sha256"] == file_sha256(paths[0]) and first["tile"] == 64
    assert fingerprint(first) == fingerprint(second) and len(fingerprint(first)) == 16
    assert fingerprint(describe_denoiser(denoiser(96), paths[0])) != fingerprint(first)
    bare = describe_denoiser(denoiser(64), None)
    assert bare["weights"] is None and bare["sha256"] is None and fingerprint(bare) != fingerprint(first)
