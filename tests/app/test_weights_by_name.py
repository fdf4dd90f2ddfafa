"""Shipped weights: found by name, made by scripts/ship_weights.py, listed by atbsn models."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.kinds import Command
from helpers.photos import NETWORK, tiny

import atbsn as package
from atbsn.archs import build_arch, shipped
from atbsn.archs.weights import read_weights, save_weights
from atbsn.utils.errors import UserError


@pytest.fixture
def ship(repository: Path) -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location("ship_weights", repository / "scripts" / "ship_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ship


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of shipped weights."""
    place = tmp_path / "shipped"
    place.mkdir()
    monkeypatch.setattr(shipped, "FOLDER", place)
    return place


def test_shipping(ship: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "net.pth"
    ema = {name: value + 0.25 for name, value in tiny().state_dict().items()}
    facts = {"network": NETWORK, "denoise": {}, "model": "RenoiseModel", "iteration": 7, "rule": "last"}
    save_weights(source, tiny().state_dict(), facts, ema)
    path = ship(source, "real", "our pictures", "anybody's", "12 minutes of a core", folder)
    weights = read_weights("real")
    assert path == folder / "real.safetensors" and path.stat().st_size < 0.8 * source.stat().st_size
    assert all(value.dtype == torch.float32 for value in weights.params.values())
    assert all(torch.allclose(value, ema[name], rtol=1e-3, atol=1e-3) for name, value in weights.params.items())
    stored = weights.metadata
    assert stored["network"]["widths"] == [4, 4] and stored["method"] == "RenoiseModel" and stored["iteration"] == 7
    assert (stored["data"], stored["terms"], stored["trained_for"]) == (
        "our pictures",
        "anybody's",
        "12 minutes of a core",
    )
    assert type(package.load("real")).__name__ == "PhotoNet"
    with pytest.raises(UserError, match=r"unreal: no weights of this name; shipped are: real\. The path"):
        package.load("unreal")


def test_what_is_too_large_for_16_bits(ship: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    net = tiny()
    net.tail.bias.data.fill_(1e6)
    save_weights(tmp_path / "net.pth", net.state_dict(), {"network": NETWORK})
    with pytest.raises(UserError, match=r"tail\.bias exceed 65504"):
        ship(tmp_path / "net.pth", "real", "d", "t", "a minute", folder)


def test_a_file_of_the_name_comes_first(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_weights(folder / "real.safetensors", tiny(0).state_dict(), {"network": NETWORK})
    monkeypatch.chdir(tmp_path)
    save_weights(tmp_path / "real", tiny(1).state_dict(), {"network": NETWORK})
    assert (read_weights("real").params["tail.weight"] == tiny(1).tail.weight).all()


def test_models(atbsn: Command, folder: Path, tmp_path: Path) -> None:
    status, said = atbsn("models")
    assert status == 0 and "no weights are shipped" in said and "none of your own" in said
    facts = {"network": NETWORK, "data": "our pictures", "terms": "anybody's"}
    save_weights(folder / "real.safetensors", tiny().state_dict(), facts)
    save_weights(tmp_path / "experiments/mine/models/net_latest.pth", tiny().state_dict(), {"network": NETWORK})
    (tmp_path / "experiments/mine/models/net_best.pth").write_bytes(b"torn")
    status, said = atbsn("models")
    lines = said.splitlines()
    count = f"{sum(value.numel() for value in build_arch(NETWORK).state_dict().values()):,}"
    assert (
        status == 0 and len(lines) == 4 and all(word in lines[1] for word in ("real", "PhotoNet", count, "anybody's"))
    )
    (folder / "real.safetensors").write_bytes((folder / "real.safetensors").read_bytes()[:40])
    assert "cannot be read" in atbsn("models")[1].splitlines()[1]
    assert "net_best.pth" in lines[2] and "cannot be read" in lines[2] and "net_latest.pth" in lines[3]


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    params = tiny().state_dict()
    params["tail.bias"][0] = float("nan")
    save_weights(tmp_path / "net.pth", params, {"network": NETWORK})
    with pytest.raises(UserError, match=r"tail\.bias is not finite"):
        package.load(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("experiments/quickstart/models/net_latest.pth", r"atbsn train -opt quickstart\.yml makes it"),
        ("experiments/train_tmbsn_dnd/models/net_latest.pth", r"atbsn train -opt tmbsn\.yml dnd\.yml makes it"),
        ("experiments/mine/models/net_9.pth", r"mine.models has net_1\.pth, net_latest\.pth"),
        ("experiments/mine/models", r"a folder, not a weight file; .* has net_1\.pth"),
        ("nowhere/x.pth", "check the path, or name shipped weights"),
    ],
)
def test_missing_weights_are_helped_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("net_1.pth", "net_latest.pth"):
        save_weights(tmp_path / "experiments/mine/models" / name, tiny().state_dict(), {})
    with pytest.raises(UserError, match=said):
        read_weights(path)


def test_arguments_may_come_as_tuples(tmp_path: Path) -> None:
    save_weights(tmp_path / "net.pth", tiny().state_dict(), {"network": {**NETWORK, "widths": (4, 4)}})
    package.load_weights(build_arch(NETWORK), tmp_path / "net.pth")
    save_weights(tmp_path / "other.safetensors", tiny().state_dict(), json.loads(json.dumps({"network": NETWORK})))
    package.load_weights(build_arch({**NETWORK, "widths": (4, 4)}), tmp_path / "other.safetensors")


@pytest.mark.parametrize("name", sorted(shipped.shipped_weights().keys() - {"raw"}))
def test_shipped_weights_keep_flat_colours_and_black(name: str) -> None:
    net = package.load(name)
    for colour in ((0, 200, 0), (200, 120, 100), (128, 128, 128), (240, 240, 240), (0, 0, 0)):
        flat = torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 200, 96).contiguous()
        with torch.inference_mode():
            moved = net.denoise(flat, **net.denoise_settings).clamp(0, 255) - flat
        assert moved.mean(dim=(2, 3)).abs().max() < 0.5, (colour, moved.mean(dim=(2, 3)))
        if min(colour) > 0 or max(colour) == 0:  # colours that cameras show
            assert moved.abs().max() < 3, colour  # no rim


@pytest.mark.parametrize("name", sorted(shipped.shipped_weights().keys() - {"raw"}))
def test_shipped_weights_keep_the_colours_of_noisy_flat_regions(name: str) -> None:
    net = package.load(name)
    draws = torch.Generator().manual_seed(0)
    for colour in ((30, 160, 40), (200, 120, 100), (90, 90, 90)):
        flat = torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 256, 256).contiguous()
        for deviation in (3, 10):
            noisy = flat + deviation * torch.randn(flat.shape, generator=draws)
            with torch.inference_mode():
                moved = net.denoise(noisy, **net.denoise_settings).mean(dim=(2, 3)) - flat.mean(dim=(2, 3))
            assert moved.abs().max() < 0.5, (colour, deviation, moved)
