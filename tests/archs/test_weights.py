import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import atbsn
from atbsn.archs.base import Network
from atbsn.archs.weights import load, load_weights, read_weights, save_weights
from atbsn.utils.errors import UserError

NETWORKS = [
    {"type": "ATBSN", "width": 4},
    {"type": "StudentA"},
    {"type": "StudentB"},
    {"type": "StudentC", "width": 4},
]


def build(options: dict[str, Any], seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return atbsn.build_arch(options)


@pytest.fixture
def net() -> Network:
    return build({"type": "StudentC", "width": 4})


def assert_same(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


# --- layouts in use ----------------------------------------------------------------------------------------

LAYOUTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "bare": lambda state: state,
    "params": lambda state: {"params": state},
    "params and metadata": lambda state: {"params": state, "metadata": {"iteration": 3}},
    "averaged": lambda state: {"params_ema": state, "params": {n: t + 1 for n, t in state.items()}},
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "module.": lambda state: {f"module.{n}": t for n, t in state.items()},
    "params of module.": lambda state: {"params": {f"module.{n}": t for n, t in state.items()}},
    "compiled": lambda state: {f"_orig_mod.{n}": t for n, t in state.items()},
    "module._orig_mod.": lambda state: {f"module._orig_mod.{n}": t for n, t in state.items()},
    "distillation": lambda state: {f"nbsn.{n}": t for n, t in state.items()} | teacher_part(),
    "module. distillation": lambda state: {f"module.{n}": t for n, t in LAYOUTS["distillation"](state).items()},
}


def teacher_part() -> dict[str, torch.Tensor]:
    return {f"bsn.{n}": t for n, t in build({"type": "ATBSN", "width": 4}).state_dict().items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_pth(tmp_path: Path, net: Network, layout: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](net.state_dict()), path)
    assert_same(read_weights(path).params, net.state_dict())
    other = build({"type": "StudentC", "width": 4}, seed=1)
    load_weights(other, path)
    assert_same(other.state_dict(), net.state_dict())
    found = load(path)
    assert type(found).__name__ == "StudentC"
    assert_same(found.state_dict(), net.state_dict())


@pytest.mark.parametrize("layout", ["bare", "module.", "compiled", "distillation", "module. distillation"])
def test_layouts_of_safetensors(tmp_path: Path, net: Network, layout: str) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(LAYOUTS[layout](net.state_dict()), path)
    assert_same(load(path).state_dict(), net.state_dict())


@pytest.mark.parametrize("options", NETWORKS, ids=lambda options: options["type"])
def test_a_bare_file_names_its_network(tmp_path: Path, options: dict[str, Any]) -> None:
    net = build(options)
    path = tmp_path / "weights.pth"
    torch.save(net.state_dict(), path)
    found = load(path)
    assert found.options == net.options
    assert found.options.items() >= options.items()
    assert not found.training
    assert_same(found.state_dict(), net.state_dict())


def test_half_precision_files_are_cast(tmp_path: Path, net: Network) -> None:
    path = tmp_path / "weights.safetensors"
    half = {name: tensor.half() for name, tensor in net.state_dict().items()}
    save_file(half, path)
    assert_same(load(path).state_dict(), {name: tensor.float() for name, tensor in half.items()})


# --- round trips -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("averaged", [False, True])
def test_round_trip(tmp_path: Path, suffix: str, averaged: bool) -> None:
    net = build({"type": "ATBSN", "width": 4, "mean": 127.5})
    average = {name: tensor / 2 for name, tensor in net.state_dict().items()}
    metadata = {"network": net.options, "k": 3, "iteration": 100, "dataset": "Noisy pictures, größer als 5 MP"}
    path = tmp_path / "deep" / f"net{suffix}"
    save_weights(path, net.state_dict(), metadata, params_ema=average if averaged else None)
    weights = read_weights(path)
    assert weights.metadata == metadata
    assert_same(weights.params, average if averaged else net.state_dict())
    found = load(path)
    assert (type(found).__name__, found.mean, found.options) == ("ATBSN", 127.5, net.options)
    assert load_weights(net, path) == metadata
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_pth_keeps_both_plain_and_averaged_weights(tmp_path: Path, net: Network) -> None:
    path = tmp_path / "net.pth"
    average = {name: tensor / 2 for name, tensor in net.state_dict().items()}
    save_weights(path, net.state_dict(), {}, params_ema=average)
    content = torch.load(path, weights_only=True)
    assert_same(content["params"], net.state_dict())
    assert_same(content["params_ema"], average)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_channels_last_weights_are_saved(tmp_path: Path, net: Network, suffix: str) -> None:
    expected = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    path = tmp_path / f"net{suffix}"
    save_weights(path, net.to(memory_format=torch.channels_last).state_dict(), {})
    assert_same(load(path).state_dict(), expected)


def test_safetensors_is_readable_by_everyone(tmp_path: Path, net: Network) -> None:
    path = tmp_path / "net.safetensors"
    save_weights(path, net.state_dict(), {"k": 3})
    assert_same(load_file(path), net.state_dict())


# --- files that are refused --------------------------------------------------------------------------------


def test_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(UserError, match=r"no such weight file|not a weight file"):
            load(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [1, 7, 8, 100, 0.5, 0.99])
def test_truncated_file(tmp_path: Path, net: Network, suffix: str, kept: float) -> None:
    path = tmp_path / f"net{suffix}"
    save_weights(path, net.state_dict(), {"k": 3})
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match=r"not a readable weight file \(.*damaged.*give another file"):
        load(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "data",
    [
        b"name,psnr\n1,30\n",
        b"\x89PNG\r\n\x1a\n" + bytes(64),
        b"\xff" * 100,
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 2) + b"{}",
        pickle.dumps([1, 2], protocol=2),
    ],
)
def test_foreign_file(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"foreign{suffix}"
    path.write_bytes(data)
    with pytest.raises(UserError, match="foreign"):
        load(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "metadata",
    [{"patch_size": "x"}, {"patch_size": -5}, {"patch_size": True}, {"patch_size": None}, {"k": 2}, {"k": "3"}],
)
def test_metadata_that_cannot_be(tmp_path: Path, net: Network, suffix: str, metadata: dict[str, Any]) -> None:
    path = tmp_path / f"net{suffix}"
    save_weights(path, net.state_dict(), metadata)
    with pytest.raises(UserError, match=r"its metadata .*; "):
        load(path)


class Bomb:
    """Unpickled by an unguarded reader, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_executed(tmp_path: Path, net: Network, suffix: str, zipped: bool) -> None:
    path, folder = tmp_path / "bomb.pth", tmp_path / "executed"
    content = {"params": net.state_dict(), "metadata": Bomb(folder)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="never executed"):
        load(path.rename(tmp_path / f"renamed{suffix}"))
    assert not folder.exists()
    (tmp_path / f"renamed{suffix}").rename(path)
    torch.load(path, weights_only=False)
    assert folder.exists(), "the bomb is a dud: the test proves nothing"


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [torch.zeros(3)],
        {},
        {"params": {}},
        {"params": [torch.zeros(3)]},
        {"params": None},
        {"optimizer": {"lr": 0.1}},
        {"weight": torch.zeros(3), "epoch": 3},
        {3: torch.zeros(3)},
    ],
    ids=str,
)
def test_not_tensors_by_name(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "content.pth"
    torch.save(content, path)
    with pytest.raises(UserError, match=r"content\.pth: "):
        load(path)


def test_unknown_network(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv_in.weight": torch.zeros(3), "conv_out.weight": torch.zeros(3)}, path)
    with pytest.raises(UserError, match=r"no registered architecture has keys such as conv_in\.weight.*ATBSN"):
        load(path)


NETWORK_METADATA = {
    "unknown": {"type": "ATBSNN"},
    "unknown argument": {"type": "StudentC", "depth": 3},
    "no type": {"width": 4},
    "no dictionary": "StudentC",
    "other width": {"type": "StudentC", "width": 8},
    "vast beyond counting": {"type": "ATBSN", "width": 10**30},
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("network", NETWORK_METADATA.values(), ids=NETWORK_METADATA)
def test_metadata_of_another_network(tmp_path: Path, net: Network, suffix: str, network: Any) -> None:
    path = tmp_path / f"net{suffix}"
    save_weights(path, net.state_dict(), {"network": network})
    with pytest.raises(UserError, match=r"net\.(pth|safetensors): "):
        load(path)


def test_a_vast_network_is_refused_before_it_takes_memory(tmp_path: Path, net: Network) -> None:
    path = tmp_path / "net.pth"
    save_weights(path, net.state_dict(), {"network": {"type": "StudentC", "width": 10**7}})
    with pytest.raises(UserError, match=r"net\.pth: the weights of another network, .* where \(20000000,\) is needed"):
        load(path)


def test_loading_leaves_the_compiler_alone(repository: Path) -> None:
    """It takes 160 MB and seconds to import, of which denoising a photograph has no use."""
    source = "import sys, atbsn; atbsn.load('real'); print([m for m in sys.modules if m in ('torch._dynamo', 'sympy')])"
    found = subprocess.run([sys.executable, "-c", source], cwd=repository, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("metadata", ["[]", "3", '"text"', "null"])
def test_foreign_metadata_is_left_alone(tmp_path: Path, net: Network, metadata: str) -> None:
    path = tmp_path / "net.safetensors"
    save_file(net.state_dict(), path, metadata={"atbsn": metadata})
    assert_same(load(path).state_dict(), net.state_dict())
    assert json.loads(metadata) is not None or read_weights(path).metadata == {}


def test_weights_of_another_architecture(tmp_path: Path, net: Network) -> None:
    path = tmp_path / "teacher.pth"
    torch.save(build({"type": "ATBSN", "width": 4}).state_dict(), path)
    with pytest.raises(UserError) as caught:
        load_weights(net, path)
    message = str(caught.value)
    assert f"{path}: the weights of another network, not of this StudentC" in message
    assert "6 unknown (nin_A.bias, nin_A.weight, nin_B.bias, nin_B.weight, nin_C.bias, nin_C.weight)" in message
    assert "2 of another shape (unet.dec1.conv2.conv.bias is (8,) where (3,) is needed" in message
    assert message.endswith("give its own weights, or the network's own type and width")


def test_weights_of_another_width(tmp_path: Path, net: Network) -> None:
    path = tmp_path / "wide.pth"
    torch.save(build({"type": "StudentC", "width": 8}).state_dict(), path)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(UserError, match=r"33 of another shape .* where \(8,\) is needed"):
        load_weights(net, path)
    assert_same(net.state_dict(), before)


@pytest.mark.parametrize("name", ["ATBSN", "StudentC", "CBSN"])
@pytest.mark.parametrize(("missing", "more"), [(1, ""), (20, ""), (21, " and 1 more"), (33, " and 13 more")])
def test_missing_weights_are_named(tmp_path: Path, name: str, missing: int, more: str) -> None:
    """All of them up to twenty, otherwise twenty and how many more."""
    path, net = tmp_path / "part.pth", build({"type": name, "width": 4})
    keys = sorted(net.state_dict())
    torch.save({key: net.state_dict()[key] for key in keys[missing:]}, path)
    with pytest.raises(UserError) as caught:
        load_weights(net, path)
    said = f"this {name}: {missing} missing ({', '.join(keys[: min(missing, 20)])}{more}); give its own weights"
    assert said in str(caught.value)


def test_weights_of_other_arguments_that_leave_no_trace_in_the_shapes(tmp_path: Path) -> None:
    """``mean`` is a number that the network subtracts: the weights fit any, and are right with one."""
    made, other = (atbsn.build_arch({"type": "ATBSN", "width": 2, "mean": mean}) for mean in (0.0, 127.5))
    save_weights(tmp_path / "net.pth", made.state_dict(), {"network": made.options})
    with pytest.raises(UserError, match=r"net\.pth: its network was made with mean 0\.0, here 127\.5; use the same"):
        load_weights(other, tmp_path / "net.pth")
    load_weights(atbsn.build_arch({"type": "ATBSN", "width": 2, "mean": 0.0}), tmp_path / "net.pth")
