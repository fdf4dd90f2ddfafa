"""spandrel's own loader opens our files and denoises as we do; the files that are ready for its upstream."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from atbsn.archs import build_arch
from atbsn.archs.base import Network
from atbsn.archs.shipped import find_weights
from atbsn.archs.weights import load, save_weights
from atbsn.integrations.spandrel import NAMES, install
from atbsn.utils.errors import UserError

TINY: dict[str, dict[str, Any]] = {
    "PhotoNet": {"type": "PhotoNet", "widths": [4, 6], "blocks": 1, "middle_blocks": 1},
    "StudentA": {"type": "StudentA"},
    "StudentB": {"type": "StudentB"},
    "StudentC": {"type": "StudentC", "width": 4},
    "NBSN": {"type": "NBSN", "width": 4},
}


@pytest.fixture
def spandrel() -> ModuleType:
    return pytest.importorskip("spandrel")


@pytest.fixture
def loader(spandrel: ModuleType) -> Any:
    """spandrel's loader, with a copy of its registry and our networks in that."""
    registry = spandrel.MAIN_REGISTRY.copy()
    install(registry)
    return spandrel.ModelLoader(registry=registry)


def tiny(name: str) -> Network:
    torch.manual_seed(0)
    net: Any = build_arch(TINY[name]).eval()
    if name == "PhotoNet":
        torch.nn.init.normal_(net.tail.weight, std=0.05)  # untrained, it is the identity
    return net


def test_every_network_is_tried() -> None:
    assert set(TINY) == set(NAMES), "write a tiny one of every network that spandrel is told of into TINY of this file"


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", TINY)
def test_its_loader_opens_our_files(spandrel: ModuleType, loader: Any, name: str, suffix: str, tmp_path: Path) -> None:
    net = tiny(name)
    path = tmp_path / f"net{suffix}"
    save_weights(path, net.state_dict(), {"network": net.options, "iteration": 7})
    model = loader.load_from_file(path)
    assert isinstance(model, spandrel.ImageModelDescriptor)
    assert model.architecture.id == f"atbsn.{name}" and type(model.model) is type(net)
    assert (model.scale, model.purpose, model.input_channels, model.output_channels) == (1, "Restoration", 3, 3)
    assert model.size_requirements.none and model.tiling is spandrel.ModelTiling.SUPPORTED
    image = torch.rand(1, 3, 45, 70)
    with torch.no_grad():
        expected = net.denoise(255 * image) / 255
    torch.testing.assert_close(model(image), expected.clamp(0, 1), atol=1e-5, rtol=0)


def test_shipped_weights(loader: Any) -> None:
    model = loader.load_from_file(find_weights("fast"))
    assert model.tags == ["123K"] and model.dtype is torch.float32
    clean = torch.full((1, 3, 40, 50), 0.5)
    noisy = (clean + 0.06 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert (model(noisy) - clean).square().mean() < 0.05 * (noisy - clean).square().mean()


def test_grey_weights(loader: Any, tmp_path: Path) -> None:
    net: Any = build_arch({"type": "StudentA", "channels": 1})
    save_weights(tmp_path / "grey.safetensors", net.state_dict(), {})
    model = loader.load_from_file(tmp_path / "grey.safetensors")
    assert model.input_channels == 1 and "1ch" in model.tags
    assert model(torch.rand(1, 1, 20, 20)).shape == (1, 1, 20, 20)


@pytest.mark.parametrize("name", TINY)
def test_no_other_architecture_takes_our_files(spandrel: ModuleType, loader: Any, name: str) -> None:
    state = tiny(name).state_dict()
    takers = [support.architecture.id for support in loader.registry if support.detect(state)]
    assert takers == [f"atbsn.{name}"]


def test_files_of_others_are_left_to_them(spandrel: ModuleType, loader: Any) -> None:
    from spandrel.architectures.NAFNet import NAFNet
    from spandrel.architectures.SCUNet import SCUNet

    for net in (NAFNet(width=8, enc_blk_nums=[1], dec_blk_nums=[1]), SCUNet(dim=8)):
        takers = [support.architecture.id for support in loader.registry if support.detect(net.state_dict())]
        assert takers == [type(net).__name__]
    more = {**tiny("StudentA").state_dict(), "another.weight": torch.zeros(1)}
    with pytest.raises(spandrel.UnsupportedModelError):
        loader.load_from_state_dict(more)
    with pytest.raises(spandrel.UnsupportedModelError):
        loader.load_from_state_dict({"enc1.conv.conv.weight": "no tensor"})


def test_installing_twice_does_nothing(spandrel: ModuleType, loader: Any) -> None:
    before = len(loader.registry)
    install(loader.registry)
    assert (
        len(loader.registry)
        == before
        == len(spandrel.MAIN_REGISTRY.copy())
        + len([name for name in NAMES if f"atbsn.{name}" not in spandrel.MAIN_REGISTRY])
    )


def test_without_spandrel_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(UserError, match=r"pip install 'atbsn\[spandrel\]'"):
        install()


@pytest.fixture
def upstream(spandrel: ModuleType, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The files of docs/upstream where they would be in spandrel."""
    folder = repository / "docs" / "upstream" / "spandrel" / "PhotoNet"
    name = "spandrel.architectures.PhotoNet"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    yield module
    for each in [each for each in sys.modules if each.startswith(f"{name}.")]:
        del sys.modules[each]


@pytest.mark.parametrize("options", [{}, {"widths": [4, 6], "blocks": 1, "middle_blocks": 0, "channels": 1}])
def test_what_is_ready_for_upstream_is_the_same_network(
    spandrel: ModuleType, upstream: Any, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    net: Any = build_arch({"type": "PhotoNet", **options}).eval()
    torch.nn.init.normal_(net.tail.weight, std=0.05)
    registry = spandrel.MAIN_REGISTRY.copy()
    registry.add(spandrel.ArchSupport.from_architecture(upstream.PhotoNetArch()))
    model = spandrel.ModelLoader(registry=registry).load_from_state_dict(net.state_dict())
    assert model.architecture.id == "PhotoNet" and model.input_channels == net.channels
    for size in ((45, 70), (3, 200), (1, 1)):
        image = torch.rand(1, net.channels, *size)
        with torch.no_grad():
            expected = (net.denoise(255 * image) / 255).clamp(0, 1)
        torch.testing.assert_close(model(image), expected, atol=1e-5, rtol=0)


def test_shipped_weights_load_upstream(spandrel: ModuleType, upstream: Any) -> None:
    registry = spandrel.ArchRegistry()
    registry.add(spandrel.ArchSupport.from_architecture(upstream.PhotoNetArch()))
    model = spandrel.ModelLoader(registry=registry).load_from_file(find_weights("fast"))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = load("fast").denoise(255 * image) / 255
    torch.testing.assert_close(model(image), expected.clamp(0, 1), atol=1e-5, rtol=0)
