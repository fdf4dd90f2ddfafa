"""scripts/convert_weights.py: every way in, and every way to fail."""

import importlib.util
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from atbsn.archs import build_arch
from atbsn.archs.weights import load, read_weights, save_weights


@pytest.fixture(scope="module")
def script(repository) -> ModuleType:
    path = repository / "scripts" / "convert_weights.py"
    spec = importlib.util.spec_from_file_location("convert_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_against_golden_output(path, assets):
    """The network in ``path``, found by its metadata, gives the authors' outputs."""
    net = load(path)
    assert net.options == {"type": "CBSN", "width": 8}
    with np.load(assets / "cbsn_width8.io.npz") as pictures, torch.no_grad():
        x = torch.from_numpy(pictures["x"]).permute(0, 3, 1, 2)
        for name, blind in (("y_blind", True), ("y_full", False)):
            expected = torch.from_numpy(pictures[name]).permute(0, 3, 1, 2)
            assert (net(x, blind=blind) - expected).abs().max() < 1e-3 * expected.abs().max()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_variables_in_npz(script, assets, tmp_path, suffix, capsys):
    target = tmp_path / f"cbsn{suffix}"
    assert script.main([str(assets / "cbsn_width8.weights.npz"), str(target)]) == 0
    assert "19,531 parameters" in capsys.readouterr().out
    check_against_golden_output(target, assets)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs tensorflow")
@pytest.mark.parametrize("name", ["cbsn_width8.ckpt", "cbsn_width8.ckpt.index"])
def test_tensorflow_checkpoint(script, assets, tmp_path, name):
    assert script.main([str(assets / name), str(tmp_path / "cbsn.pth")]) == 0
    check_against_golden_output(tmp_path / "cbsn.pth", assets)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs tensorflow")
def test_half_a_tensorflow_checkpoint(script, assets, tmp_path, capsys):
    (tmp_path / "half.ckpt.index").write_bytes((assets / "cbsn_width8.ckpt.index").read_bytes())
    assert script.main([str(tmp_path / "half.ckpt"), str(tmp_path / "cbsn.pth")]) == 2
    assert "half.ckpt.data-00000-of-00001" in capsys.readouterr().err


def test_without_tensorflow(script, assets, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(script, "find_spec", lambda name: None)
    assert script.main([str(assets / "cbsn_width8.ckpt"), str(tmp_path / "cbsn.pth")]) == 2
    assert "pip install tensorflow-cpu" in capsys.readouterr().err
    assert not (tmp_path / "cbsn.pth").exists()


@pytest.mark.parametrize("options", [{"type": "StudentA"}, {"type": "CBSN", "width": 4}])
def test_there_and_back_keeps_tensors_and_metadata(script, tmp_path, options):
    net = build_arch(options)
    metadata = {"network": options, "iteration": 7}
    save_weights(tmp_path / "a.pth", net.state_dict(), metadata)
    assert script.main([str(tmp_path / "a.pth"), str(tmp_path / "b.safetensors")]) == 0
    assert script.main([str(tmp_path / "b.safetensors"), str(tmp_path / "c.pth")]) == 0
    weights = read_weights(tmp_path / "c.pth")
    assert weights.metadata == metadata
    assert weights.params.keys() == net.state_dict().keys()
    assert all(torch.equal(weights.params[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"params": state},
        lambda state: {"params": {}, "params_ema": {f"module.{n}": v for n, v in state.items()}},
        lambda state: {"params": {f"nbsn.{n}": v for n, v in state.items()} | {"bsn.x": torch.zeros(1)}},
    ],
    ids=["bare", "params", "params_ema and module.", "nbsn."],
)
def test_wrappers_come_off_and_the_network_is_found(script, tmp_path, wrap):
    state = build_arch({"type": "StudentA"}).state_dict()
    torch.save(wrap(state), tmp_path / "wrapped.pth")
    assert script.main([str(tmp_path / "wrapped.pth"), str(tmp_path / "plain.safetensors")]) == 0
    weights = read_weights(tmp_path / "plain.safetensors")
    assert weights.metadata == {"network": {"type": "StudentA"}}
    assert all(torch.equal(weights.params[name], tensor) for name, tensor in state.items())


def test_missing_variables_are_named(script, assets, tmp_path, capsys):
    with np.load(assets / "cbsn_width8.weights.npz") as arrays:
        variables = {name: arrays[name] for name in arrays.files if name != "DBSN__B1__conv1__W1"}
    np.savez(tmp_path / "half.npz", **variables)
    assert script.main([str(tmp_path / "half.npz"), str(tmp_path / "cbsn.pth")]) == 2
    error = capsys.readouterr().err
    assert "half.npz" in error
    assert "DBSN/B1/conv1/W1 is missing" in error
    assert not (tmp_path / "cbsn.pth").exists()


@pytest.mark.parametrize("name", ["no.npz", "text.npz", "no.pth", "text.pth", "no.ckpt"])
def test_what_cannot_be_read(script, tmp_path, capsys, name):
    if name.startswith("text"):
        (tmp_path / name).write_text("not weights")
    assert script.main([str(tmp_path / name), str(tmp_path / "out.pth")]) == 2
    assert name in capsys.readouterr().err
    assert not (tmp_path / "out.pth").exists()


def test_an_output_that_is_no_weight_file(script, assets, tmp_path, capsys):
    assert script.main([str(assets / "cbsn_width8.weights.npz"), str(tmp_path / "out.onnx")]) == 2
    assert ".pth or .safetensors" in capsys.readouterr().err


def test_as_a_command_from_anywhere(repository, assets, tmp_path):
    path, source = repository / "scripts" / "convert_weights.py", assets / "cbsn_width8.weights.npz"
    subprocess.run([sys.executable, path, source, "cbsn.safetensors"], cwd=tmp_path, check=True)
    check_against_golden_output(tmp_path / "cbsn.safetensors", assets)
