"""Training over two nodes: equal to one process, through the death of a node, and with a word when the cable is cut."""

import csv
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from two_nodes import TwoNodes, kill

PATIENCE = 240
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="network namespaces")


@pytest.fixture
def nodes() -> Iterator[TwoNodes]:
    try:
        with TwoNodes() as nodes:
            yield nodes
    except OSError as error:
        pytest.skip(str(error))


def options(folder: Path, batch_size: int, **train: Any) -> Path:
    loader = {"patch_size": 32, "batch_size_per_gpu": batch_size, "num_worker_per_gpu": 0}
    content = {
        "name": "tiny",
        "manual_seed": 3,
        "num_gpu": 0,
        "datasets": {
            "train": {"type": "SimulatedCamera", "split": "val", **loader},
            "val": {"type": "SimulatedCamera", "split": "val"},
        },
        "network": {"type": "ATBSN", "width": 2},
        "model": {"type": "BSNModel"},
        "train": {"total_iter": 6, "optim": {"type": "SGD", "lr": 1e-4, "momentum": 0.9}, **train},
        "val": {"val_freq": 3, "metrics": {"psnr": {"type": "psnr", "round": False}}},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": False},
    }
    folder.mkdir(exist_ok=True)
    path = folder / "options.yml"
    path.write_text(yaml.safe_dump(content))
    return path


def train(repository: Path, path: Path, *arguments: str) -> list[str]:
    return [str(repository / "train.py"), "-opt", str(path), *arguments]


def both(nodes: TwoNodes, folder: Path, arguments: list[str], restarts: int = 0) -> tuple[list[Any], list[Path]]:
    logs = [folder / f"node{node}.log" for node in (0, 1)]
    started = [nodes.torchrun(node, arguments, folder, logs[node], restarts) for node in (0, 1)]
    return started, logs


def finished(started: list[Any], logs: list[Path]) -> tuple[list[int], str]:
    """The exit statuses, once all have ended."""
    end = time.monotonic() + PATIENCE
    while any(process.poll() is None for process in started) and time.monotonic() < end:
        time.sleep(0.2)
    said = "\n".join(log.read_text() for log in logs)
    assert all(process.poll() is not None for process in started), said
    return [process.returncode for process in started], said


def until(log: Path, text: str) -> None:
    end = time.monotonic() + PATIENCE
    while text not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


def left(folder: Path) -> tuple[dict[str, Any], list[tuple[str, str, float]]]:
    experiment = folder / "experiments" / "tiny"
    params = torch.load(experiment / "models" / "net_latest.pth", weights_only=True)["params"]
    with (experiment / "metrics.csv").open() as file:
        return params, [(row["iteration"], row["metric"], float(row["value"])) for row in csv.DictReader(file)]


def assert_close(folder: Path, reference: Path) -> None:
    (params, rows), (expected, expected_rows) = left(folder), left(reference)
    for name, value in expected.items():
        assert torch.allclose(params[name], value, rtol=1e-4, atol=1e-6), name
    assert [row[:2] for row in rows] == [row[:2] for row in expected_rows] and len(rows) == 2
    assert [row[2] for row in rows] == pytest.approx([row[2] for row in expected_rows], abs=1e-4)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """What one process with the global batch leaves."""
    folder = tmp_path_factory.mktemp("alone")
    command = [sys.executable, *train(repository, options(folder, batch_size=4))]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_two_nodes_train_and_validate_as_one_process_does(
    nodes: TwoNodes, alone: Path, repository: Path, tmp_path: Path
) -> None:
    arguments = train(repository, options(tmp_path, batch_size=2), "--launcher", "pytorch")
    statuses, said = finished(*both(nodes, tmp_path, arguments))
    assert statuses == [0, 0], said
    assert "on 2 x cpu" in said
    assert_close(tmp_path, alone)


@pytest.mark.long
def test_a_node_that_is_killed_comes_back_and_the_training_goes_on(
    nodes: TwoNodes, alone: Path, repository: Path, tmp_path: Path
) -> None:
    """Node 1 dies past a state; in its place a new one is started; node 0 is restarted by its own launcher."""
    path = options(tmp_path, batch_size=2)
    slow = tmp_path / "slow.py"
    slow.write_text(SLOW.format(repository=str(repository)))
    arguments = [str(slow), *train(repository, path, "--launcher", "pytorch")[1:]]
    started, logs = both(nodes, tmp_path, arguments, restarts=3)
    until(logs[0], "iter 3/6")
    kill(started[1])
    started[1] = nodes.torchrun(1, arguments, tmp_path, logs[1], restarts=3)
    statuses, said = finished(started, logs)
    assert statuses == [0, 0], said
    assert "resuming from" in said and "iterations 3 to 6" in said  # saved before it validated
    assert not list((tmp_path / "experiments").glob("*_archived_*")), "continued, not begun anew"
    assert_close(tmp_path, alone)


@pytest.mark.long
def test_a_cut_cable_ends_the_training_with_a_word(nodes: TwoNodes, repository: Path, tmp_path: Path) -> None:
    """Nobody is told that the cable is cut; after ``dist_timeout`` both nodes say so and end."""
    path = options(tmp_path, batch_size=2, total_iter=100000)
    arguments = train(repository, path, "--launcher", "pytorch", "--set", "dist_timeout=5", "val.val_freq=null")
    started, logs = both(nodes, tmp_path, arguments)
    until(logs[0], "iter 3/")
    nodes.cut()
    statuses, said = finished(started, logs)
    assert all(statuses), said
    for log in logs:
        assert "has not answered for" in log.read_text() and "dist_timeout" in log.read_text(), said


SLOW = """
import runpy, sys, time
sys.path.insert(0, {repository!r})
from atbsn.engine.training.trainer import Trainer
step = Trainer.step
def slow(self, iteration):
    time.sleep(0.5)
    return step(self, iteration)
Trainer.step = slow
sys.argv[0] = {repository!r} + "/train.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""
