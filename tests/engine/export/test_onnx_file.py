"""atbsn export: one file for every size and batch, the same pictures from ONNX Runtime, and refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.exporting import skip_without_exporter
from helpers.kinds import Command
from torch.torch_version import TorchVersion

from atbsn.archs import build_arch
from atbsn.archs.base import Network
from atbsn.archs.weights import save_weights

NETWORKS: dict[str, dict[str, Any]] = {
    "A": {"type": "StudentA"},
    "C": {"type": "StudentC", "width": 4, "mean": 127.5},
    "CBSN": {"type": "CBSN", "width": 4},
}


def save(options: dict[str, Any], path: Path) -> Network:
    torch.manual_seed(0)
    net = build_arch(options)
    save_weights(path, net.state_dict(), {"network": net.options})
    return net


@pytest.mark.parametrize("name", NETWORKS)
def test_export_gives_the_same_pictures_at_any_size(name: str, command: Command, tmp_path: Path) -> None:
    skip_without_exporter()
    import onnxruntime

    net = save(NETWORKS[name], tmp_path / "net.pth")
    status, output = command("export", "net.pth", "net.onnx")
    assert status == 0, output
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    described = json.loads(session.get_modelmeta().custom_metadata_map["atbsn"])
    assert described["network"] == net.options
    for size in ((1, 3, 40, 72), (3, 3, 97, 65)):  # neither was traced or checked by the script
        noisy = torch.rand(size) * 255
        with torch.no_grad():
            expected = net.denoise(noisy)
        result = torch.from_numpy(session.run(None, {"noisy": noisy.numpy()})[0])
        assert result.shape == expected.shape
        assert (result - expected).abs().max() < 1e-4 * expected.abs().max()


def test_outputs_that_differ_leave_no_file(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_without_exporter()
    save(NETWORKS["C"], tmp_path / "net.pth")
    monkeypatch.setattr("atbsn.archs.base.Network.denoise", lambda net, noisy: net(noisy) + torch.rand(()))
    status, output = command("export", "net.pth", "net.onnx")
    assert status == 2 and "ONNX Runtime's output differs" in output
    assert not (tmp_path / "net.onnx").exists()


def test_a_blind_spot_network_is_refused(command: Command, tmp_path: Path) -> None:
    save({"type": "ATBSN", "width": 4}, tmp_path / "net.pth")
    status, output = command("export", "net.pth", "net.onnx")
    assert status == 2 and "export the student" in output and not (tmp_path / "net.onnx").exists()


def test_missing_packages_are_named(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(NETWORKS["C"], tmp_path / "net.pth")
    monkeypatch.setattr("atbsn.engine.export.graph.find_spec", lambda name: None)
    status, output = command("export", "net.pth", "net.onnx")
    assert status == 2 and "onnx, onnxscript, onnxruntime: not installed" in output


def test_an_old_torch_is_refused(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(NETWORKS["C"], tmp_path / "net.pth")
    monkeypatch.setattr("atbsn.engine.export.graph.find_spec", lambda name: True)
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.7.1+cpu"))
    status, output = command("export", "net.pth", "net.onnx")
    assert status == 2 and "PyTorch 2.7.1+cpu: networks are exported with 2.8 or newer" in output
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize("arguments", [("net.pth", "net.pt"), ("missing.pth", "net.onnx")])
def test_wrong_names_are_refused(arguments: tuple[str, str], command: Command, tmp_path: Path) -> None:
    save(NETWORKS["C"], tmp_path / "net.pth")
    status, output = command("export", *arguments)
    assert status == 2 and "Traceback" not in output


def test_half_the_bits_are_half_the_file(command: Command, tmp_path: Path) -> None:
    skip_without_exporter()
    import onnxruntime

    net = save({"type": "StudentA"}, tmp_path / "net.pth")
    status, output = command("export", "net.pth", "--half")
    assert status == 0, output
    path = tmp_path / "net.onnx"
    assert path.stat().st_size < 2.2 * sum(weight.numel() for weight in net.parameters())  # of 4 bytes each, before
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    noisy = torch.rand(1, 3, 40, 50) * 255
    rounded = torch.from_numpy(session.run(None, {"noisy": noisy.numpy()})[0])
    with torch.no_grad():
        expected = net.denoise(noisy)
    difference = (rounded - expected).abs().max()
    assert 1e-4 * expected.abs().max() < difference < 0.01 * expected.abs().max(), "rounded, and no more than that"


def test_numbers_that_16_bits_cannot_hold_are_refused(command: Command, tmp_path: Path) -> None:
    skip_without_exporter()
    net = build_arch({"type": "StudentA"})
    with torch.no_grad():
        net.enc1.conv.conv.weight[0, 0, 0, 0] = 1e5
    save_weights(tmp_path / "net.pth", net.state_dict(), {"network": net.options})
    status, output = command("export", "net.pth", "net.onnx", "--half")
    assert status == 2 and "leave --half out" in output and not (tmp_path / "net.onnx").exists()
