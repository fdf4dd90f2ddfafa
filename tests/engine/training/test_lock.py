"""One name, one training at a time."""

import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from training_runs import At, Run, die_alone, tiny, wait_for_go

from atbsn.engine.training.experiment import Experiment
from atbsn.options.check import check_options
from atbsn.utils.errors import UserError


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_training_of_a_name_is_refused(tmp_path: Path, processes: int) -> None:
    options = tiny(tmp_path) | {"path": {"root": str(tmp_path / "shared")}}
    first, second = Run(tmp_path / "first", options), Run(tmp_path / "second", options, processes)
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(first.train(at=At("step", 6), act=wait_for_go)))
    thread.start()
    wait_for(first.folder / "waiting")
    files = sorted((tmp_path / "shared").rglob("*"))
    for arguments in ((), ("--auto_resume",)):
        outcome = second.train(*arguments, LOCK_PATIENCE="0.2")
        assert outcome.statuses == [2] * processes and "Traceback" not in outcome.output, outcome.output
        assert outcome.output.count("another training of the name 'tiny' is running") == 1
    assert sorted((tmp_path / "shared").rglob("*")) == files
    (first.folder / "go").touch()
    thread.join()
    assert outcomes[0].status == 0, outcomes[0].output
    assert torch.load(tmp_path / "shared/experiments/tiny/training_states/12.state")["iteration"] == 12


def test_another_name_trains_beside_it(tmp_path: Path) -> None:
    options = tiny(tmp_path) | {"path": {"root": str(tmp_path / "shared")}}
    first, second = Run(tmp_path / "first", options), Run(tmp_path / "second", options | {"name": "other"})
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(first.train(at=At("step", 6), act=wait_for_go)))
    thread.start()
    wait_for(first.folder / "waiting")
    assert second.train(LOCK_PATIENCE="0").status == 0
    (first.folder / "go").touch()
    thread.join()
    assert outcomes[0].status == 0


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    options = tiny(tmp_path)
    options["datasets"]["train"]["num_worker_per_gpu"] = 2
    run = Run(tmp_path / "run", options)
    assert run.train(at=At("step", 6), act=die_alone).status == -9
    assert (tmp_path / "run" / "experiments" / ".tiny.lock").exists()
    assert run.train("--auto_resume").status == 0


def test_the_lock_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atbsn.engine.training.experiment._PATIENCE", 0)
    options = check_options(tiny(tmp_path) | {"path": {"root": str(tmp_path)}}, "test")
    for _ in range(2):
        with Experiment(options, None) as experiment:
            assert experiment.states.is_dir()
        assert list(experiment.states.iterdir()) == []
        assert not list((tmp_path / "experiments").glob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="files that are open cannot be removed")
def test_who_waits_for_a_lock_whose_file_goes_gets_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never two at once, though the file is removed while others have it open."""
    options = check_options(tiny(tmp_path) | {"path": {"root": str(tmp_path)}}, "test")
    inside, most, done = [], [], []

    def train() -> None:
        for _ in range(5):
            with Experiment(options, None):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.01)
                inside.pop()
            done.append(1)

    threads = [threading.Thread(target=train) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 20 and max(most) == 1


def test_a_refused_name_keeps_the_lock_of_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atbsn.engine.training.experiment._PATIENCE", 0)
    options = check_options(tiny(tmp_path) | {"path": {"root": str(tmp_path)}}, "test")
    with Experiment(options, None):
        for _ in range(2):
            with pytest.raises(UserError, match="another training of the name 'tiny' is running"):
                Experiment(options, None)
    Experiment(options, None).__exit__()
