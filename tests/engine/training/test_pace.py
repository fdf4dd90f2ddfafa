"""``--minutes``: a training as long as the time at hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers.kinds import Command, WriteOptions

from atbsn.archs.weights import read_weights
from atbsn.engine.training import pace
from atbsn.engine.training.experiment import RunFolders
from atbsn.engine.training.pace import resized
from atbsn.engine.training.setup import build_training
from atbsn.engine.training.trainer import Trainer
from atbsn.options import load_options
from atbsn.options.schema import Train
from atbsn.pictures import Picture, write_picture

LATEST = "models/net_latest.pth"


def test_as_many_iterations_as_the_minutes_allow(
    command: Command, write_options: WriteOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps that measure the pace leave no trace: neither in the weights nor on the disk."""
    measure = Trainer.pace
    monkeypatch.setattr(Trainer, "pace", lambda self, seconds: 0 * measure(self, 0.05) + 0.01)
    options = write_options(train={"scheduler": {"type": "MultiStep", "milestones": [3, 6]}})
    status, output = command("train.py", "-opt", options, "--minutes", 0.002)
    assert status == 0, output
    assert "0.01 s an iteration: 12 iterations take about 0 s" in output
    assert output.count("iterations 0 to") == 1 and "iter 12/12" in output
    assert [path.name for path in (tmp_path / "experiments").iterdir()] == ["tiny"]
    folder = tmp_path / "experiments/tiny"
    written = yaml.safe_load((folder / "options.yml").read_text())
    assert written["train"]["scheduler"]["milestones"] == [6, 12]
    assert command("train.py", "-opt", folder / "options.yml", "--set", "name=again")[0] == 0
    one, two = (read_weights(each / LATEST).params for each in (folder, tmp_path / "experiments/again"))
    assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_what_is_left_out_is_named_once(
    command: Command, write_options: WriteOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "pace", lambda self, seconds: 0.01)
    folder = tmp_path / "pictures"
    for name, side in (("large.png", 40), ("small.png", 20)):
        write_picture(folder / name, Picture(np.zeros((side, side, 3), np.uint8)))
    train = {"type": "NoisyFolder", "dataroot": str(folder)}
    status, output = command("train.py", "-opt", write_options(datasets={"train": train}), "--minutes", 0.0005)
    assert status == 0 and output.count("small.png (20x20 pixels") == 1, output


def test_a_stopped_training_keeps_its_length(
    command: Command, write_options: WriteOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "pace", lambda self, seconds: 0.01)
    options = write_options()
    assert command("train.py", "-opt", options, "--minutes", 0.0015)[0] == 0
    for path in (tmp_path / "experiments/tiny/training_states").glob("9.state"):
        path.unlink()
    status, output = command("train.py", "-opt", options, "--minutes", 60, "--auto_resume")
    assert status == 0 and "9 iterations in all" in output and "iter 9/9" in output
    assert command("train.py", "-opt", options, "--minutes", 60, "--auto_resume")[1].count("finished")


def test_the_pace_is_measured(command: Command, write_options: WriteOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_WATCHED", 0.2)
    found = []
    measure = Trainer.pace
    monkeypatch.setattr(Trainer, "pace", lambda self, seconds: found.append(measure(self, seconds)) or 0.01)
    assert command("train.py", "-opt", write_options(train={"total_iter": 10_000}), "--minutes", 0.0005)[0] == 0
    assert command("train.py", "-opt", write_options(train={"total_iter": 1}), "--minutes", 0.0005)[0] == 0
    assert all(0 < each < 5 for each in found) and len(found) == 2


def test_measuring_leaves_the_training_as_it_is(write_options: WriteOptions, tmp_path: Path) -> None:
    options = load_options(str(write_options(path={"root": str(tmp_path / "runs")})))
    training = build_training(options, torch.device("cpu"), None)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    assert 0 < pace.seconds_an_iteration(training, RunFolders(options), 0.01) < 5
    assert all(torch.equal(value, before[name]) for name, value in training.model.state_dict().items())
    assert not training.model._forward_pre_hooks and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("scheduler", "longer"),
    [
        ({"type": "CosineAnnealing", "hold": 10, "warmup_iter": 1}, {"hold": 25, "warmup_iter": 2}),
        ({"type": "Step", "step_size": 30}, {"step_size": 75, "warmup_iter": 0}),
        ({"type": "MultiStep", "milestones": [50, 80]}, {"milestones": [125, 200]}),
        ({"type": "MultiStep", "milestones": [0.5, 80]}, {"milestones": [0.5, 200]}),
        ({"type": "CosineAnnealing", "hold": 0.1}, {"hold": 0.1}),
        ({"type": "Constant"}, {}),
    ],
)
def test_the_learning_rate_goes_with_the_length(scheduler: dict[str, Any], longer: dict[str, Any]) -> None:
    train = Train.model_validate({"total_iter": 100, "optim": {"type": "Adam", "lr": 1e-3}, "scheduler": scheduler})
    found = resized(train, 250)
    assert found.total_iter == 250 and found.optim == train.optim
    assert {key: getattr(found.scheduler, key) for key in longer} == longer


@pytest.mark.parametrize(("number", "rounded"), [(0.3, 1), (7.9, 7), (99.9, 99), (128.0, 120), (4567.0, 4500)])
def test_lengths_are_round_numbers(number: float, rounded: int) -> None:
    assert pace._two_digits(number) == rounded


@pytest.mark.parametrize("minutes", ["0", "-1", "soon", "inf"])
def test_minutes_that_are_none(minutes: str, command: Command, write_options: WriteOptions, tmp_path: Path) -> None:
    status, output = command("train.py", "-opt", write_options(), "--minutes", minutes)
    assert status == 2 and "--minutes" in output
    assert not (tmp_path / "experiments").exists()
