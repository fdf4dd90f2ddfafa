"""Every option file of the repository is right: it loads, and its network and training method can be built."""

from pathlib import Path

import pytest
import torch

from atbsn.archs import build_arch
from atbsn.archs.weights import save_weights
from atbsn.engine.build import build_method, build_network, build_test_denoiser
from atbsn.options import load_options

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted(path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "options").rglob("*.yml"))
COMPLETE = [name for name in FILES if not name.startswith(("options/base/", "options/sweeps/"))]
TRAINING = [name for name in COMPLETE if name.startswith("options/train/")]


@pytest.mark.parametrize("name", COMPLETE)
def test_option_file_builds_its_network_and_method(name, tmp_path, monkeypatch):
    options = load_options(str(REPOSITORY / name))
    monkeypatch.chdir(tmp_path)
    network = options.network or {"type": "ATBSN", "width": 8}
    for key in ("teacher", "bnn", "lan"):  # what an earlier training left
        if options.model is not None and options.model.get(key) is not None:
            _leave_weights(options.model[key], _trained_by(options.model[key]))
    if options.path.pretrain_network is not None:
        _leave_weights(options.path.pretrain_network, network)
    net, _ = build_network(options)
    if options.model is not None:
        assert build_method(options, net).net is net
    assert sum(parameter.numel() for parameter in net.parameters()) > 0
    for kind in ("val", "test"):
        build_test_denoiser(options, torch.device("cpu"), kind)


def _trained_by(path):
    """The network of the option file whose run leaves ``path``."""
    (network,) = [run.network for run in map(load_options, _paths(TRAINING)) if run.name == Path(path).parts[1]]
    return network


def _paths(names):
    return [str(REPOSITORY / name) for name in names]


def _leave_weights(path, network):
    net = build_arch(network)
    save_weights(Path(path), net.state_dict(), {"network": net.options})


@pytest.mark.parametrize("name", TRAINING)
def test_option_file_can_be_trained_from(name):
    options = load_options(str(REPOSITORY / name))
    assert options.train is not None and "train" in options.datasets
    assert options.logger.save_checkpoint_freq <= options.train.total_iter


def test_names_of_trainings_differ():
    names = [load_options(str(REPOSITORY / name)).name for name in TRAINING]
    assert len(names) == len(set(names))


def test_bare_names_are_unique():
    """``-opt NAME.yml`` finds a file anywhere under options/."""
    names = [Path(name).name for name in FILES]
    assert len(names) == len(set(names))
