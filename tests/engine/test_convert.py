"""atbsn convert: every way in, and every way to fail."""

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atbsn.archs import build_arch
from atbsn.archs.weights import load, read_weights, save_weights
from atbsn.engine.convert import convert, state_dict_from_tensorflow, tensorflow_name
from atbsn.utils.errors import UserError

needs_tensorflow = pytest.mark.skipif(find_spec("tensorflow") is None, reason="needs tensorflow")


def check_against_golden_output(path: Path, assets: Path) -> None:
    """The network in ``path``, found by its metadata, gives the authors' outputs."""
    net = load(path)
    assert net.options == {"type": "CBSN", "width": 8}
    with np.load(assets / "cbsn_width8.io.npz") as pictures, torch.no_grad():
        x = torch.from_numpy(pictures["x"]).permute(0, 3, 1, 2)
        for name, blind in (("y_blind", True), ("y_full", False)):
            expected = torch.from_numpy(pictures[name]).permute(0, 3, 1, 2)
            assert (net(x, blind=blind) - expected).abs().max() < 1e-3 * expected.abs().max()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_variables_in_npz(assets: Path, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"cbsn{suffix}"
    convert(assets / "cbsn_width8.weights.npz", target)
    check_against_golden_output(target, assets)


@needs_tensorflow
@pytest.mark.parametrize("name", ["cbsn_width8.ckpt", "cbsn_width8.ckpt.index"])
def test_tensorflow_checkpoint(assets: Path, tmp_path: Path, name: str) -> None:
    convert(assets / name, tmp_path / "cbsn.pth")
    check_against_golden_output(tmp_path / "cbsn.pth", assets)


@needs_tensorflow
def test_half_a_tensorflow_checkpoint(assets: Path, tmp_path: Path) -> None:
    (tmp_path / "half.ckpt.index").write_bytes((assets / "cbsn_width8.ckpt.index").read_bytes())
    with pytest.raises(UserError, match=r"half\.ckpt\.data-00000-of-00001.*copy all its files"):
        convert(tmp_path / "half.ckpt", tmp_path / "cbsn.pth")


def test_without_tensorflow(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atbsn.engine.convert.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install tensorflow-cpu"):
        convert(assets / "cbsn_width8.ckpt", tmp_path / "cbsn.pth")
    assert not (tmp_path / "cbsn.pth").exists()


@pytest.mark.parametrize("options", [{"type": "StudentA"}, {"type": "CBSN", "width": 4}])
def test_there_and_back_keeps_tensors_and_metadata(tmp_path: Path, options: dict[str, Any]) -> None:
    net = build_arch(options)
    metadata = {"network": options, "iteration": 7}
    save_weights(tmp_path / "a.pth", net.state_dict(), metadata)
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    convert(tmp_path / "b.safetensors", tmp_path / "c.pth")
    weights = read_weights(tmp_path / "c.pth")
    found = weights.metadata["network"]
    assert {key: found[key] for key in options} == options and weights.metadata["iteration"] == 7
    assert build_arch(found).options == net.options
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
def test_wrappers_come_off_and_the_network_is_found(tmp_path: Path, wrap: Callable[..., Any]) -> None:
    state = build_arch({"type": "StudentA"}).state_dict()
    torch.save(wrap(state), tmp_path / "wrapped.pth")
    convert(tmp_path / "wrapped.pth", tmp_path / "plain.safetensors")
    weights = read_weights(tmp_path / "plain.safetensors")
    assert weights.metadata == {"network": {"type": "StudentA", "channels": 3}}
    assert all(torch.equal(weights.params[name], tensor) for name, tensor in state.items())


def test_missing_variables_are_named(assets: Path, tmp_path: Path) -> None:
    with np.load(assets / "cbsn_width8.weights.npz") as arrays:
        variables = {name: arrays[name] for name in arrays.files if name != "DBSN__B1__conv1__W1"}
    np.savez(tmp_path / "half.npz", **variables)
    with pytest.raises(UserError, match=r"half\.npz: .*DBSN/B1/conv1/W1 is missing"):
        convert(tmp_path / "half.npz", tmp_path / "cbsn.pth")
    assert not (tmp_path / "cbsn.pth").exists()


@pytest.mark.parametrize("name", ["no.npz", "text.npz", "no.pth", "text.pth", "no.ckpt"])
def test_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    if name.startswith("text"):
        (tmp_path / name).write_text("not weights")
    with pytest.raises(UserError, match=name):
        convert(tmp_path / name, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


def test_an_output_that_is_no_weight_file(assets: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"out\.onnx: .*\.pth or \.safetensors"):
        convert(assets / "cbsn_width8.weights.npz", tmp_path / "out.onnx")


def test_as_a_command_from_anywhere(assets: Path, tmp_path: Path) -> None:
    def run(*arguments: Path | str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "atbsn", "convert", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    done = run(assets / "cbsn_width8.weights.npz", "cbsn.safetensors")
    assert done.returncode == 0 and "19,531 parameters" in done.stdout
    check_against_golden_output(tmp_path / "cbsn.safetensors", assets)

    failed = run("no.npz", "out.pth")
    assert failed.returncode == 2
    assert "no.npz" in failed.stdout + failed.stderr and "Traceback" not in failed.stderr


def read_variables(assets: Path) -> dict[str, np.ndarray]:
    """The authors' variables by name."""
    with np.load(assets / "cbsn_width8.weights.npz") as weights:
        return {key.replace("__", "/"): weights[key] for key in weights.files}


def test_variable_names() -> None:
    assert tensorflow_name("conv0.weight") == "DBSN/conv0/kernel"
    assert tensorflow_name("branch2.conv1.weight") == "DBSN/B2/conv1/W1"
    assert tensorflow_name("branch1.conv1.bias") == "DBSN/B1/conv1/b1"
    assert tensorflow_name("branch1.dilated.8.conv1.bias") == "DBSN/B1/DCM8/conv1/bias"


def test_what_the_optimiser_left_is_passed_over(assets: Path) -> None:
    variables: dict[str, Any] = read_variables(assets)
    state = state_dict_from_tensorflow(variables)
    for name in list(variables):
        variables[f"{name}/Adam"] = variables[f"{name}/Adam_1"] = np.zeros(1)
    variables |= {"beta1_power": np.float32(0.5), "beta2_power": np.float32(0.5), "global_step": np.int64(9)}
    with_adam = state_dict_from_tensorflow(variables)
    assert with_adam.keys() == state.keys()
    assert all(torch.equal(with_adam[key], state[key]) for key in state)


def test_missing_unknown_and_misshapen_variables_are_named(assets: Path) -> None:
    variables = read_variables(assets)
    del variables["DBSN/B2/conv1/W1"], variables["DBSN/conv4/bias"]
    variables["DBSN/conv9/bias"] = np.zeros(3)
    variables["DBSN/conv2/kernel"] = np.zeros((1, 1, 8, 63))
    with pytest.raises(UserError) as caught:
        state_dict_from_tensorflow(variables)
    for fault in (
        "DBSN/B2/conv1/W1 is missing",
        "DBSN/conv4/bias is missing",
        "DBSN/conv9/bias is unknown",
        "DBSN/conv2/kernel has shape (1, 1, 8, 63)",
    ):
        assert fault in str(caught.value)


def test_variables_of_something_else() -> None:
    with pytest.raises(UserError, match=r"DBSN/conv0/kernel is missing.* and 79 more"):
        state_dict_from_tensorflow({"global": np.zeros(1)})
