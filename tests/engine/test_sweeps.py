"""atbsn sweep runs a grid: every point an ordinary run, none twice, to the end whatever fails."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.kinds import Command, WriteOptions

from atbsn.engine.inference.finish import split_settings
from atbsn.engine.sweeps.file import read_sweep
from atbsn.engine.sweeps.launch import SlurmLauncher
from atbsn.engine.sweeps.ledger import Ledger
from atbsn.engine.sweeps.points import combinations, expand, label_of
from atbsn.engine.sweeps.schedule import SweepScheduler, last_words
from atbsn.registry import ARCHS
from atbsn.utils.durations import exact_duration
from atbsn.utils.errors import UserError

PATIENCE = 240
SWEEPS = sorted((Path(__file__).resolve().parents[2] / "options" / "sweeps").glob("*.yml"))
VAL = {"val": {"type": "SimulatedCamera", "split": "val"}}


@pytest.fixture
def sweep_file(tmp_path: Path, write_options: WriteOptions) -> Callable[..., Path]:
    """A function that writes a sweep over the training of seconds, and gives its path."""
    write_options(datasets=VAL, val={"metrics": {"psnr": {"type": "psnr"}}})

    def write(**content: Any) -> Path:
        path = tmp_path / "grid.yml"
        path.write_text(yaml.safe_dump({"base": "tiny.yml", **content}))
        return path

    return write


def points_of(path: Path) -> list[Any]:
    return expand(read_sweep(path), path)


def ledger(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "experiments" / "grid" / "sweep.json").read_text())


def start(repository: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "atbsn", "sweep", "-opt", "grid.yml", *arguments]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )  # fmt: skip


def test_a_grid_is_trained_and_measured_once(command: Command, sweep_file: Callable[..., Path], tmp_path: Path) -> None:
    path = sweep_file(grid={"model.k_train": [3, 5]}, then=[{"valid": {"k": [0, 3]}}])
    status, output = command("sweep", "-opt", path)
    assert status == 0 and "4 of 4 points done, 0 running, 0 failed, eta 00:00:00" in output, output
    entries = ledger(tmp_path)
    assert [entry["status"] for entry in entries.values()] == ["done"] * 4
    for k in (3, 5):
        run = tmp_path / "experiments" / "grid" / f"k_train-{k}"
        assert f"k_train: {k}" in (run / "options.yml").read_text() and (run / "models" / "net_latest.pth").is_file()
        rows = (tmp_path / "results" / "grid" / f"k_train-{k}" / "val" / "metrics.csv").read_text()
        assert "k=0" in rows and "k=3" in rows
    written = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.pth")}
    status, output = command("sweep", "-opt", path)
    assert status == 0 and "started" not in output, output
    assert written == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.pth")}
    # A point that is taken away, and what was learnt from it, comes anew; another option is another point.
    sweep_file(grid={"model.k_train": [3, 5]}, options={"train.total_iter": 7}, then=[{"valid": {"k": [0, 3]}}])
    status, output = command("sweep", "-opt", path)
    assert status == 2 and output.count("begun with other options") == 2, output


def test_students_learn_from_the_teacher_of_their_seed(
    command: Command, sweep_file: Callable[..., Path], write_options: WriteOptions, tmp_path: Path
) -> None:
    write_options(
        "student.yml", datasets=VAL, network={"type": "StudentC", "width": 2},
        model={"type": "DistillModel", "teacher": "none.pth", "ks": [0, 3]},
    )  # fmt: skip
    student = {
        "stage": "student", "base": "student.yml", "weights": "model.teacher",
        "grid": {"network": {"C": {"type": "StudentC", "width": 2}, "A": {"type": "StudentA"}}},
        "options": {"train.total_iter": 2},
    }  # fmt: skip
    path = sweep_file(grid={"manual_seed": [7]}, then=[{"train": student}], options={"train.total_iter": 2})
    status, output = command("sweep", "-opt", path)
    assert status == 0, output
    teacher = "experiments/grid/seed-7/models/net_latest.pth"
    for name in ("C", "A"):
        options = yaml.safe_load(
            (tmp_path / f"experiments/grid/student/seed-7--network-{name}/options.yml").read_text()
        )
        assert options["model"]["teacher"] == teacher and options["manual_seed"] == 7


def test_a_failed_point_is_reported_and_the_others_are_done(
    command: Command, sweep_file: Callable[..., Path], write_options: WriteOptions, tmp_path: Path
) -> None:
    write_options(
        "student.yml", datasets=VAL, network={"type": "StudentA"}, model={"type": "DistillModel", "teacher": "x"}
    )
    after = {"train": {"stage": "student", "base": "student.yml", "weights": "model.teacher"}}
    data = {
        "gone": {"type": "NoisyFolder", "dataroot": "nowhere"},
        "there": {"type": "SimulatedCamera", "split": "val"},
    }
    path = sweep_file(grid={"datasets.train": data}, then=[after], options={"train.total_iter": 2})
    status, output = command("sweep", "-opt", path)
    entries = ledger(tmp_path)
    assert status == 2, output
    assert (
        entries["train grid/train-gone"]["status"] == "failed"
        and "nowhere" in entries["train grid/train-gone"]["reason"]
    )
    assert entries["train grid/student/train-gone"]["reason"] == "needs train grid/train-gone, which failed"
    assert entries["train grid/train-there"]["status"] == entries["train grid/student/train-there"]["status"] == "done"
    assert "experiments/grid/train-gone.log" in output
    (tmp_path / "nowhere").mkdir()
    status, output = command("sweep", "-opt", path)
    assert "started: train grid/train-gone" in output and "started: train grid/train-there" not in output


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_sweep_continues_where_its_points_were(
    number: signal.Signals, repository: Path, sweep_file: Callable[..., Path], tmp_path: Path
) -> None:
    sweep_file(grid={"manual_seed": [0, 1]}, options={"train.total_iter": 20000, "logger.save_checkpoint_freq": 5})
    sweep = start(repository, tmp_path, "--jobs", "2")
    logs = [tmp_path / "experiments" / "grid" / f"seed-{seed}.log" for seed in (0, 1)]
    end = time.monotonic() + PATIENCE
    while not all(log.exists() and "iter 10" in log.read_text() for log in logs):
        assert time.monotonic() < end and sweep.poll() is None, sweep.communicate()[0]
        time.sleep(0.1)
    sweep.send_signal(number)
    output, _ = sweep.communicate(timeout=PATIENCE)
    if number == signal.SIGTERM:
        assert sweep.returncode == 128 + number and "the same command continues" in output
        assert {entry["status"] for entry in ledger(tmp_path).values()} == {"stopped"}
    else:
        assert sweep.returncode == -number
    while not all("stopped by SIGTERM, saved" in log.read_text() for log in logs):  # the system tells the orphans
        assert time.monotonic() < end, logs[0].read_text()
        time.sleep(0.1)
    sweep = start(repository, tmp_path, "--jobs", "2")
    while not all("resuming from" in log.read_text() for log in logs):
        assert time.monotonic() < end and sweep.poll() is None, sweep.communicate()[0]
        time.sleep(0.1)
    sweep.terminate()
    sweep.communicate(timeout=PATIENCE)
    assert not list((tmp_path / "experiments" / "grid").glob("*_archived_*"))


def test_slurm_jobs_run_the_points(
    sweep_file: Callable[..., Path], repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.chdir(tmp_path)
    path = sweep_file(grid={"manual_seed": [0]}, options={"train.total_iter": 2})
    points, folder = points_of(path), tmp_path / "experiments" / "grid"
    launcher = SlurmLauncher(folder / "slurm", 1, {"timeout_min": 10}, cluster="local")
    assert SweepScheduler(points, Ledger(folder, points), launcher).run() == 0
    entry = ledger(tmp_path)["train grid/seed-0"]
    assert entry["status"] == "done" and entry["handle"] is None and "done: " in Path(entry["log"]).read_text()


def test_all_faults_are_told_before_anything_starts(
    command: Command, sweep_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = sweep_file(grid={"model.k_trian": [3, 5], "train.total_iter": [5, -1]}, then=[{"valid": {}}])
    status, output = command("sweep", "-opt", path)
    assert status == 2 and "did you mean 'k_train'" in output and "train.total_iter: -1" in output, output
    assert output.count("k_trian") <= 6 and not (tmp_path / "experiments").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"gird": {}}, "did you mean 'grid'"),
        ({"grid": {"manual_seed": []}}, "grid.manual_seed"),
        ({"grid": {"network": [{"type": "StudentA"}]}}, "has no name"),
        ({"then": [{"valid": {}, "compare": {}}]}, "name one of train, valid, compare"),
        ({"then": [{"train": {"base": "tiny.yml", "stage": "s"}}]}, "then.0.train.weights: missing"),
        ({"then": [{"valid": {}}, {"valid": {"k": [3]}}]}, "2 points of this name"),
        ({"then": [{"valid": {"mean": True}}]}, "use compare"),
        ({"grid": {"set.a": {"x": 1}}}, "label: {option: value, ...}"),
        ({"grid": {"file.a": [3]}}, "its values are not option files; write [apbsn.yml, tmbsn.yml]"),
        ({"grid": {"file.a": ["tyni.yml"]}}, "tyni.yml: no such option file"),
        ({"trainings": [{"base": "tiny.yml"}]}, "stands beside base"),
        ({"base": "nothing.yml"}, "nothing.yml"),
    ],
)
def test_a_wrong_sweep_file_is_refused(content: dict[str, Any], said: str, sweep_file: Callable[..., Path]) -> None:
    path = sweep_file(**content)
    with pytest.raises(UserError, match="fault") as refusal:
        points_of(path)
    assert said in str(refusal.value)


def test_methods_and_data_are_a_line_each(
    sweep_file: Callable[..., Path], write_options: WriteOptions, tmp_path: Path
) -> None:
    """``file.NAME``: option files as an axis, laid over the base; another sweep file lies over the sweep."""
    write_options("wide.yml", network={"width": 4}, datasets=VAL)
    (tmp_path / "long.yml").write_text("train: {total_iter: 9}")
    (tmp_path / "short.yml").write_text("train: {total_iter: 3}")
    axes = {"file.arch": ["tiny.yml", "wide.yml"], "file.length": {"9": "long.yml", "3": "short.yml"}}
    path = sweep_file(base=None, grid=axes, then=[{"valid": {}}], **{"x-note": {"any": "thing"}})
    points = points_of(path)
    assert [point.id for point in points if point.kind == "train"] == [
        f"train grid/arch-{arch}--length-{length}" for arch in ("tiny", "wide") for length in (3, 9)
    ]
    for point in points:
        arch, length = (axis.rpartition("-")[2] for axis in point.name.split("/")[1].split("--"))
        assert point.options.network["width"] == {"tiny": 2, "wide": 4}[arch]
        assert point.options.train.total_iter == int(length)
        assert point.command("python")[:4] == ["python", "-m", "atbsn", point.kind]
    (tmp_path / "over.yml").write_text("grid: {file.length: [long.yml]}\nthen: []")
    assert len(expand(read_sweep(path, tmp_path / "over.yml"), path)) == 2


def test_labels_name_the_points() -> None:
    grid = {
        "model.k_train": [9], "manual_seed": [0], "model.ks": [[0, 3]], "train.clip_grad_norm": [None],
        "set.size": {"small": {"network.width": 8, "train.total_iter": 5}},
    }  # fmt: skip
    ((axes, options),) = combinations(grid)
    assert label_of(axes) == "k_train-9--seed-0--ks-0_3--clip_grad_norm-null--size-small"
    assert options["network.width"] == 8 and options["train.total_iter"] == 5 and options["model.ks"] == [0, 3]
    ((axes, _),) = combinations({"network.type": ["ATBSN"], "model.type": ["BSNModel"]})
    assert list(axes) == ["network.type", "model.type"]  # one word would not tell them apart


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_shipped_sweeps_are_right(path: Path) -> None:
    points = points_of(path)
    assert len({point.id for point in points}) == len(points) > 4
    ids = [point.id for point in points]
    assert all(point.needs is None or ids.index(point.needs) < ids.index(point.id) for point in points)
    for point in points:
        if point.kind != "train":  # the network that was trained takes the settings it is measured with
            trained = points[ids.index(point.needs)].options.network["type"]
            split_settings(ARCHS.get(trained), point.options.test.denoise)


def test_eta_goes_by_points_of_the_same_stage(
    sweep_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    points = points_of(sweep_file(grid={"manual_seed": [0, 1, 2, 3, 4]}))
    record = Ledger(tmp_path / "experiments" / "grid", points)
    launcher: Any = type("TwoSlots", (), {"slots": 2, "cores": 1})
    scheduler = SweepScheduler(points, record, launcher)
    assert scheduler.eta() == "not known yet"
    record.entries[points[0].id].update(status="done", seconds=100.0)
    assert scheduler.eta() == exact_duration(200)  # four of 100 s, two at a time
    record.entries[points[1].id].update(status="failed")
    record.entries[points[2].id].update(seconds=60.0)
    assert scheduler.eta() == exact_duration(120)


def test_the_last_words_are_the_reason(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("2026-01-01 00:00:00 INFO: iter 1\n2026-01-01 00:00:01 ERROR: x: missing; name it\n  more\n\n")
    assert last_words(log) == "x: missing; name it\n  more"
    log.write_text("a ERROR: skipped\nTraceback (most recent call last):\n  File\nKeyError: 'x'\n")
    assert last_words(log) == "KeyError: 'x'"
