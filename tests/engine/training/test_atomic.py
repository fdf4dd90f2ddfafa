"""A disk that is full or cannot be written costs nothing that was saved before."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from training_runs import At, Outcome, Run, allow_small_files, assert_same, die, fill_disk, tiny

from atbsn.engine.training.checkpoint import prune
from atbsn.engine.training.state import STATE, load_state, numbered, set_aside
from atbsn.utils.errors import UserError
from atbsn.utils.files import remove_temporary_files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX file systems")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("atomic")
    run = Run(folder / "reference", tiny(folder))
    assert run.train().status == 0
    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that is a disk of four megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def assert_stopped(outcome: Outcome, what: str) -> None:
    """With one message, which says what cannot be written."""
    assert set(outcome.statuses) == {2} and "Traceback" not in outcome.output, outcome.output
    (message,) = re.findall("ERROR: (.*)", outcome.output)
    assert re.search(what, message) and "free some space" in message


@pytest.mark.parametrize("moment", [At("step", 3), At("step", 5), At("step", 7), At("step", 10), At("whole 8.state")])
def test_a_full_disk_stops_and_the_last_checkpoint_serves(small_disk: Path, reference: Run, moment: At) -> None:
    run = Run(small_disk / "run", reference.options)
    assert_stopped(run.train(at=moment, act=fill_disk), "No space left on device")
    states = run.experiment / "training_states"
    for path in states.iterdir():
        load_state(path)
    expected = {3: 0, 5: 1, 7: 2, 10: 3}[moment.count] if moment.point == "step" else 3  # of those at 4, 6 and 8
    assert len(list(states.iterdir())) == expected
    assert not list(run.experiment.rglob("*.tmp"))
    (run.folder / "filler").unlink()
    assert run.train("--auto_resume").status == 0
    assert_same(run, reference)


def test_a_full_disk_stops_all_processes(small_disk: Path, reference: Run) -> None:
    run = Run(small_disk / "run", reference.options, processes=2)
    outcome = run.train(at=At("step", 7), act=fill_disk)
    assert outcome.statuses == [2, 2]
    assert_stopped(outcome, "No space left on device")


@pytest.mark.skipif("COVERAGE_RUN" in os.environ, reason="coverage could not write its own data either")
def test_a_full_disk_without_rights_to_mount(tmp_path: Path, reference: Run) -> None:
    """The same by a limit on the size of files, which the state is the first to exceed."""
    run = Run(tmp_path / "run", reference.options)
    assert_stopped(
        run.train(at=At("step", 7), act=allow_small_files), r"8\.state: cannot be written \(File too large\)"
    )
    assert sorted(path.name for path in (run.experiment / "training_states").iterdir()) == ["4.state", "6.state"]
    assert run.train("--auto_resume").status == 0
    assert_same(run, reference)


def test_a_full_disk_from_the_start(small_disk: Path, reference: Run) -> None:
    run = Run(small_disk / "run", reference.options)
    outcome = run.train(at=At("build"), act=fill_disk)
    assert_stopped(outcome, "experiments/tiny.*No space left on device")


def test_a_folder_that_cannot_be_written(small_disk: Path, reference: Run) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    run = Run(reference.folder.parent / "unwritable", reference.options | {"path": {"root": str(small_disk)}})
    outcome = run.train()
    assert outcome.status == 2 and "Traceback" not in outcome.output
    (message,) = re.findall("ERROR: (.*)", outcome.output)
    assert f"{small_disk}/experiments/tiny: cannot be written (Read-only file system)" in message
    assert "choose a writable folder" in message


@pytest.mark.parametrize("name", ["experiments", "experiments/tiny", "tb_logger"])
def test_a_file_in_the_place_of_a_folder(tmp_path: Path, reference: Run, name: str) -> None:
    run = Run(tmp_path / "run", reference.options)
    (run.folder / name).parent.mkdir(parents=True)
    (run.folder / name).write_text("precious")
    outcome = run.train()
    assert "Traceback" not in outcome.output
    if name == "experiments/tiny":  # an old run of the name, whatever it is, is archived
        assert outcome.status == 0
        (archived,) = run.folder.glob("experiments/tiny_archived_*")
        assert archived.read_text() == "precious"
    else:
        assert outcome.status == 2 and "choose a writable folder" in outcome.output
        assert (run.folder / name).read_text() == "precious"


@pytest.mark.parametrize("moment", ["half net_8.pth", "half 8.state", "prune"])
def test_old_checkpoints_stay_until_the_new_one_is_safe(tmp_path: Path, reference: Run, moment: str) -> None:
    options = reference.options | {"logger": reference.options["logger"] | {"keep_last": 1}}
    run = Run(tmp_path / "run", options)
    assert run.train(at=At(moment, 3 if moment == "prune" else 1), act=die).status == -9
    assert (run.experiment / "models" / "net_6.pth").is_file()
    assert load_state(run.experiment / "training_states" / "6.state").content["iteration"] == 6
    if moment != "prune":
        assert list(run.experiment.rglob(".*.tmp"))  # what the killed writer left
    assert run.train("--auto_resume").status == 0
    assert [path.name for path in (run.experiment / "training_states").iterdir()] == ["12.state"]
    assert sorted(path.name for path in (run.experiment / "models").glob("net_*")) == [
        "net_12.pth", "net_best.pth", "net_latest.pth"
    ]  # fmt: skip
    assert not list(run.experiment.rglob(".*.tmp"))


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_pruning_counts_no_checkpoint_of_a_future_given_up(tmp_path: Path) -> None:
    """Resumed at 4 and saved at 6: what lies beyond is not newer, and 6 must not make room for it."""
    models = touch(tmp_path / "models", "net_2.pth", "net_4.pth", "net_6.pth", "net_9.pth", "net_best.pth", "notes.txt")
    states = touch(tmp_path / "states", "2.state", "4.state", "6.state", "9.state")
    prune(models, states, keep_last=2, iteration=6)
    assert names(models) == ["net_4.pth", "net_6.pth", "net_9.pth", "net_best.pth", "notes.txt"]
    assert names(states) == ["4.state", "6.state", "9.state"]


def test_states_of_a_future_given_up_are_set_aside(tmp_path: Path) -> None:
    states = touch(tmp_path / "states", "4.state", "8.state", "12.state")
    set_aside(states, 4)
    assert names(states) == ["12.state.set_aside", "4.state", "8.state.set_aside"]
    assert [number for number, _ in numbered(states, STATE)] == [4]


def test_only_our_own_leftovers_are_removed(tmp_path: Path) -> None:
    ours, theirs = ".0123456789abcdef.tmp", [".mine.tmp", "0123456789abcdef.tmp", ".0123456789abcdef.tmp.png", "a.tmp"]
    touch(tmp_path, ours, *theirs)
    touch(tmp_path / "deep", ours)
    remove_temporary_files(tmp_path)
    assert names(tmp_path) == sorted([*theirs, "deep"]) and names(tmp_path / "deep") == []


def test_a_changed_metrics_file_is_not_overwritten(tmp_path: Path, reference: Run) -> None:
    run = Run(tmp_path / "run", reference.options)
    assert run.train(at=At("step", 9), act=die).status == -9
    table = run.experiment / "metrics.csv"
    for text in ("not,ours\n1,2\n", table.read_text().replace("iteration", "epoch"), table.read_text() + "x,y\n", "\0"):
        table.write_text(text)
        outcome = run.train("--auto_resume")
        assert outcome.status == 2 and "metrics.csv: cannot be continued" in outcome.output, outcome.output
        assert "Traceback" not in outcome.output and table.read_text() == text


def test_a_console_that_went_away_does_not_end_a_training(tmp_path: Path, reference: Run, repository: Path) -> None:
    """As when the connection breaks, or ``| head`` has read enough."""
    options = tmp_path / "tiny.yml"
    options.write_text(yaml.safe_dump(reference.options))
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, str(repository / "train.py"), "-opt", str(options)],
        cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    os.close(writer)
    os.close(reader)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in errors, errors
    (log,) = (tmp_path / "experiments" / "tiny").glob("train_*.log")
    assert "iter 12/12" in log.read_text()


def test_a_log_that_cannot_be_written_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from atbsn.utils.log import close_log, logger, set_up_log

    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    set_up_log(full)
    try:
        for line in range(3):
            logger.info("line %d", line)
    finally:
        with contextlib.suppress(UserError):
            close_log()
    captured = capsys.readouterr()
    output = captured.out + captured.err
    assert output.count("the log cannot be written any more") == 1 and "Traceback" not in output
    assert "line 2" in output
