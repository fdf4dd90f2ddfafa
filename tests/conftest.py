"""Fixtures shared by all tests."""

import os
import runpy
import signal
import sys
from pathlib import Path

import pytest
import torch
import yaml
from helpers.kinds import Command, WriteOptions

from atbsn.app import main
from atbsn.options.load import merge
from atbsn.registry.plugins import load_plugin

if "PYTEST_XDIST_WORKER" in os.environ:  # each worker, and what it starts, has its share of the cores
    _THREADS = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    torch.set_num_threads(_THREADS)
    os.environ.setdefault("OMP_NUM_THREADS", str(_THREADS))

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plugin", action="append", default=[], help="a Python file of your own")


def pytest_configure(config: pytest.Config) -> None:
    for path in config.getoption("--plugin"):
        load_plugin(path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu") is not None:
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_interrupts() -> None:
    """Ctrl-C interrupts, here and in child processes, also where the tests run in the background of a shell."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def assets() -> Path:
    """Small reference files kept in the repository."""
    return REPOSITORY / "tests" / "assets"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real photographs and the authors' reference outputs, where they lie beside the checkout."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    return folder


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """``command("train", "-opt", ...)``: run ``atbsn train``, in an empty folder, in this process.

    A name that ends with .py is a script of the repository. Gives the exit status and what was printed.
    """
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: object) -> tuple[int | str, str]:
        is_script = name.endswith(".py")
        monkeypatch.setattr(sys, "argv", [*([name] if is_script else ["atbsn", name]), *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            if is_script:
                runpy.run_path(str(REPOSITORY / name), run_name="__main__")
            else:
                main()
        captured = capsys.readouterr()
        return ending.value.code or 0, captured.out + captured.err

    return run


@pytest.fixture
def write_options(tmp_path: Path) -> WriteOptions:
    """``write_options(**changes)``: an option file for a training of seconds, with changes laid over it."""

    def write(name: str = "tiny.yml", **changes: object) -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(merge(TINY, changes), sort_keys=False))
        return path

    return write


TINY = {
    "name": "tiny",
    "manual_seed": 1,
    "num_gpu": 0,
    "datasets": {
        "train": {
            "type": "SimulatedCamera",
            "split": "val",
            "patch_size": 32,
            "batch_size_per_gpu": 2,
            "num_worker_per_gpu": 0,
        }
    },
    "network": {"type": "ATBSN", "width": 2},
    "model": {"type": "BSNModel"},
    "train": {"total_iter": 6, "optim": {"type": "Adam", "lr": 1e-3}},
    "logger": {"print_freq": 2, "save_checkpoint_freq": 3, "use_tb_logger": False},
}
