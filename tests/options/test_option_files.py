"""Every option file of the repository is right: it loads, and its network and training method can be built."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from atbsn.archs import build_arch
from atbsn.archs.weights import save_weights
from atbsn.engine.build import build_method, build_network, build_test_denoiser
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.prior import CameraPrior
from atbsn.options import load_options, option_files
from atbsn.options.files import find_option_file
from atbsn.options.load import parse_yaml, read_options
from atbsn.options.schema import Options, TrainLoader

PARTS = ("base", "method", "data", "sweeps")
"""Folders whose files are no options of a run by themselves."""
FILES = {path.name: path.parent.name for path in option_files()}
METHODS, DATA = ([name for name, folder in FILES.items() if folder == kind] for kind in ("method", "data"))
CROSSED = [(method, data) for method in METHODS for data in DATA]
TRAINING = [*((name,) for name, folder in FILES.items() if folder == "train"), *CROSSED]
COMPLETE = [*TRAINING, *((name,) for name, folder in FILES.items() if folder not in (*PARTS, "train"))]
BUILT = [names for names in COMPLETE if names not in CROSSED or names[1] in ("sidd.yml", "dnd.yml", "simulated.yml")]
"""What is built too: other data have the network of these."""


def spelled(names: Iterable[str]) -> str:
    return " ".join(name.removesuffix(".yml") for name in names)


@pytest.fixture(scope="module")
def loaded() -> dict[tuple[str, ...], Options]:
    """The options of all complete spellings, as on a machine with a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        return {names: load_options(names) for names in COMPLETE}


def test_there_are_methods_and_data() -> None:
    assert len(METHODS) >= 17 and {"sidd.yml", "dnd.yml", "polyu.yml", "blocks.yml", "simulated.yml"} <= set(DATA)


@pytest.mark.parametrize("names", BUILT, ids=spelled)
def test_options_build_their_network_and_method(
    names: tuple[str, ...], loaded: dict[tuple[str, ...], Options], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = loaded[names]
    monkeypatch.chdir(tmp_path)
    network = options.network or {"type": "ATBSN", "width": 8}
    for key in ("teacher", "bnn", "lan"):  # what an earlier training left
        if options.model is not None and options.model.get(key) is not None:
            _leave_weights(options.model[key], _trained_by(options.model[key], loaded))
    if options.model is not None and options.model.get("cameras") is not None:
        CameraTable.drawn(CameraPrior(), torch.empty(2, 1, 1, 1)).write(Path(options.model["cameras"]))
    if options.path.pretrain_network is not None:
        _leave_weights(options.path.pretrain_network, network)
    net, _ = build_network(options)
    if options.model is not None:
        assert build_method(options, net).net is net
    assert sum(parameter.numel() for parameter in net.parameters()) > 0
    for kind in ("val", "test"):
        build_test_denoiser(options, torch.device("cpu"), kind)


def _trained_by(path: Any, loaded: Any) -> dict[str, Any]:
    """The network of the options whose run leaves ``path``: every teacher is one that can be trained."""
    run = Path(path).parts[1]
    trained = [options.network for names, options in loaded.items() if names in TRAINING and options.name == run]
    assert trained and all(network == trained[0] for network in trained), run
    return trained[0]


def _leave_weights(path: Any, network: dict[str, Any]) -> None:
    net = build_arch(network)
    save_weights(Path(path), net.state_dict(), {"network": net.options})


@pytest.mark.parametrize("names", TRAINING, ids=spelled)
def test_options_can_be_trained_from(names: tuple[str, ...], loaded: dict[tuple[str, ...], Options]) -> None:
    options = loaded[names]
    assert options.train is not None and "train" in options.datasets
    assert options.logger.save_checkpoint_freq <= options.train.total_iter, (
        f"{spelled(names)}: it ends before its first checkpoint; lower logger.save_checkpoint_freq"
    )


@pytest.mark.parametrize(("method", "data"), CROSSED, ids=lambda name: name.removesuffix(".yml"))
def test_method_and_data_stay_themselves(method: str, data: str, loaded: dict[tuple[str, ...], Options]) -> None:
    """The network is the method's, the pictures are the data's; the run is called after both."""
    options = loaded[method, data]
    laid, brought = (read_options(find_option_file(name)) for name in (method, data))
    network = laid.get("on_data", {}).get(options.data, {}).get("network", laid["network"])
    assert options.network["type"] == network.get("type", laid["network"]["type"])
    assert options.dataset("train") == {
        key: value for key, value in brought["datasets"]["train"].items() if key not in TrainLoader.model_fields
    }
    assert options.dataset_names("val") == [name for name in brought["datasets"] if name.startswith("val")]
    assert options.data == Path(data).stem and options.name == laid["name"].replace("{data}", options.data)
    assert options.on_data is None


def test_one_name_is_one_training(loaded: dict[tuple[str, ...], Options]) -> None:
    """Two spellings of one run are the same options."""
    runs = {}
    for names in TRAINING:
        other = runs.setdefault(loaded[names].name, names)
        assert loaded[other] == loaded[names], (other, names)


def test_bare_names_are_unique() -> None:
    """``-opt NAME.yml`` finds a file anywhere under options/."""
    assert len(FILES) == len(option_files())


def test_a_copy_of_any_file_finds_its_base() -> None:
    """Bases are named, not pathed: a copy elsewhere, or a file of one's own, is laid over the same."""
    for path in option_files():
        base = parse_yaml(path.read_text(encoding="utf-8"), path.name).get("base") or []
        assert all(name in FILES for name in ([base] if isinstance(base, str) else base)), path
