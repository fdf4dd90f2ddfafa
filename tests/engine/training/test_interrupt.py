"""SIGTERM, SIGINT and killed workers: the state is saved, and the training goes on where it was."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from training_runs import (
    At,
    Run,
    assert_same,
    ctrl_c_while_building,
    hang_up,
    interrupt,
    interrupt_twice,
    terminate,
    terminate_alone,
    tiny,
)

from atbsn.engine.training import interrupt as module
from atbsn.engine.training.interrupt import StopSignal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

KILLED_WORKER = """
import os, runpy, sys
sys.path[:0] = {path!r}
from training_runs import At, arm, die_alone
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
    arm(At("step", 6), die_alone)
sys.argv[0] = {train!r}
runpy.run_path({train!r}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """A function that gives the uninterrupted run of so many processes, trained once, and a new run to disturb."""
    folder = tmp_path_factory.mktemp("interrupt")
    references = {}

    def pair(processes: int = 1, workers: int = 0) -> tuple[Run, Run]:
        options = tiny(folder)
        options["datasets"]["train"]["num_worker_per_gpu"] = workers
        if processes not in references:
            references[processes] = Run(folder / f"reference{processes}", tiny(folder), processes)
            assert references[processes].train().statuses == [0] * processes
        number = len(list(folder.glob("disturbed*")))
        return references[processes], Run(folder / f"disturbed{number}", options, processes)

    return pair


def assert_resumes(run: Run, reference: Run, iteration: int) -> None:
    """The run has stopped after ``iteration``, and the resumed one ends like the uninterrupted one."""
    states = run.experiment / "training_states"
    assert torch.load(states / f"{iteration}.state")["iteration"] == iteration
    assert max(int(path.stem) for path in states.iterdir()) == iteration
    assert run.train("--auto_resume").statuses == [0] * run.processes
    if iteration % run.options["logger"]["save_checkpoint_freq"] and iteration % run.options["val"]["val_freq"]:
        (states / f"{iteration}.state").unlink()
        (run.experiment / "models" / f"net_{iteration}.pth").unlink()
    assert_same(run, reference)


@pytest.mark.parametrize(
    ("act", "status", "iteration", "workers"),
    [
        (terminate, 143, 7, 2),  # nothing is due
        (hang_up, 129, 7, 2),
        (interrupt, 130, 7, 2),
        (interrupt, 130, 6, 0),  # a validation
        (terminate, 143, 5, 0),  # a line of the log
        (terminate, 143, 4, 0),  # a checkpoint
        (terminate, 143, 12, 0),  # the end
    ],
)
def test_a_signal_finishes_the_step_and_saves(
    runs: Callable[..., Any], act: Callable[..., Any], status: int, iteration: int, workers: int
) -> None:
    reference, run = runs(workers=workers)
    outcome = run.train(at=At("step", iteration), act=act)
    assert outcome.status == status, outcome.output
    message = f"{signal.Signals(status - 128).name}: finishing this iteration and saving"
    assert outcome.output.count(message) == 1  # the loaders, which were told too, say nothing
    assert "continue with --auto_resume" in outcome.output and "Traceback" not in outcome.output
    assert not outcome.outlived
    assert_resumes(run, reference, iteration)


@pytest.mark.parametrize(("act", "status"), [(terminate, 143), (interrupt, 130)])
def test_a_signal_during_validation(runs: Callable[..., Any], act: Callable[..., Any], status: int) -> None:
    """The validation is finished, and then the next step, on a batch of the loaders."""
    reference, run = runs(workers=2)
    outcome = run.train(at=At("validate", 1), act=act)
    assert outcome.status == status and not outcome.outlived, outcome.output
    assert_resumes(run, reference, 7)


@pytest.mark.parametrize(("act", "workers"), [(terminate_alone, 0), (terminate, 2)])
def test_all_processes_stop_at_the_same_iteration(
    runs: Callable[..., Any], act: Callable[..., Any], workers: int
) -> None:
    """The one that was told, the others one iteration later, together with it."""
    reference, run = runs(processes=2, workers=workers)
    outcome = run.train(at=At("step", 6, rank=1), act=act)
    assert outcome.statuses == [143, 143] and outcome.output.count("stopped by SIGTERM") == 1, outcome.output
    assert not outcome.outlived
    assert_resumes(run, reference, 7)


def test_ctrl_c_before_the_loop(runs: Callable[..., Any]) -> None:
    _, run = runs()
    outcome = run.train(at=At("build"), act=ctrl_c_while_building)
    assert outcome.status == 130 and "interrupted" in outcome.output and "Traceback" not in outcome.output
    assert not run.experiment.exists()


def test_the_same_request_twice_is_one_and_a_later_one_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C reaches a process from the terminal and from torchrun."""
    with StopSignal() as stop:
        assert not stop.requested()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert stop.requested() and stop.received is signal.SIGINT
        monkeypatch.setattr(module, "_ONE_REQUEST", 0.0)
        time.sleep(0.01)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_request_heard_of_from_another_process_first_is_the_same_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes are not told at the same moment."""
    handler = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        monkeypatch.setattr(module.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(stop, "_agreed", lambda: signal.SIGINT)
        assert stop.requested()
        try:
            signal.raise_signal(signal.SIGINT)  # its own
        except KeyboardInterrupt:
            pytest.fail("taken for a second request")
    for number, previous in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, handler)):
        signal.signal(number, previous)  # which a process that was asked leaves as they are


def test_a_second_ctrl_c_leaves_a_validation_at_once(runs: Callable[..., Any]) -> None:
    """What had been learned until then is saved, and the validation is made up for."""
    reference, run = runs()
    outcome = run.train(at=At("validate", 1), act=interrupt_twice)
    assert outcome.status == 130 and "Traceback" not in outcome.output, outcome.output
    assert max(int(path.stem) for path in (run.experiment / "training_states").iterdir()) == 6
    assert run.train("--auto_resume").statuses == [0]
    assert_same(run, reference)


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def torchrun(folder: Path, repository: Path, script: Path, *arguments: str) -> subprocess.Popen[str]:
    """``torchrun`` with two processes, in a process group of its own."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)}
    return subprocess.Popen(
        [*launch, str(script), "-opt", "tiny.yml", "--launcher", "pytorch"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def test_torchrun_restarts_and_the_training_continues_by_itself(
    runs: Callable[..., Any], repository: Path, tmp_path: Path
) -> None:
    """A worker is killed after iteration 6; nobody gives --auto_resume."""
    reference, _ = runs(processes=2)
    options = {**reference.options, "logger": reference.options["logger"]}
    (tmp_path / "tiny.yml").write_text(yaml.safe_dump(options))
    script = tmp_path / "killed_worker.py"
    path = [str(repository), str(Path(__file__).parent)]
    script.write_text(KILLED_WORKER.format(path=path, train=str(repository / "train.py")))
    process = torchrun(tmp_path, repository, script, "--max-restarts=1", "--monitor-interval=0.1")
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert "resuming from experiments/tiny/training_states/4.state" in output, output
    assert_same(Run(tmp_path, options, 2), reference)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_torchrun_passes_signals_on(
    runs: Callable[..., Any], repository: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C in the terminal of torchrun: every process gets it, and the workers get it once more from torchrun."""
    _, run = runs(processes=2)
    options = {**run.options, "train": run.options["train"] | {"total_iter": 100_000}}
    options["logger"] = options["logger"] | {"print_freq": 1, "save_checkpoint_freq": 100_000}
    options["datasets"]["train"]["num_worker_per_gpu"] = 2
    options["val"] = {}
    (tmp_path / "tiny.yml").write_text(yaml.safe_dump(options))
    process = torchrun(tmp_path, repository, repository / "train.py")
    for line in process.stdout:
        if "iter 5/" in line:
            break
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=120)
    assert f"stopped by {number.name}" in output, output
    assert len(list((tmp_path / "experiments" / "tiny" / "training_states").iterdir())) == 1
