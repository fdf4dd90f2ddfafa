"""Where a training can be looked at: options and metrics in TensorBoard, and runs of Weights & Biases."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.kinds import Command, WriteOptions
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from atbsn.engine.training import trackers
from atbsn.engine.training.trackers import TensorBoard, WeightsAndBiases, flatten
from atbsn.utils.errors import UserError

VALIDATED = {
    "datasets": {"val": {"type": "SimulatedCamera", "split": "val"}},
    "val": {"val_freq": 3, "limit": 1, "metrics": {"psnr": {"type": "psnr"}}},
}


def test_options_as_plain_values() -> None:
    nested = {"train": {"optim": {"lr": 0.1, "betas": [0.9, 0.99]}, "ema": None, "compile": False}, "seed": 3}
    flat = {"train.optim.lr": 0.1, "train.optim.betas": "[0.9, 0.99]", "train.compile": False, "seed": 3}
    assert flatten(nested) == flat


def test_tensorboard_compares_runs_by_their_options(
    command: Command, write_options: WriteOptions, tmp_path: Path
) -> None:
    options = write_options(**VALIDATED, logger={"use_tb_logger": True})
    status, output = command("train.py", "-opt", options, "--set", "train.total_iter=3")
    assert status == 0, output
    events = EventAccumulator(str(tmp_path / "tb_logger" / "tiny")).Reload()
    told = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(told).session_start_info
    assert start.hparams["train.optim.lr"].number_value == 1e-3
    assert start.hparams["network.type"].string_value == "ATBSN"
    told = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    metrics = plugin_data_pb2.HParamsPluginData.FromString(told).experiment.metric_infos
    (name,) = [each.name.tag for each in metrics]
    assert events.Scalars(name)[-1].step == 3, "the tab shows this curve's last value"


def test_a_training_without_validation_has_nothing_to_compare(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path / "tb", {"a": 1})
    board.open(1)
    board.scalars(1, {"loss": 2.0})
    board.close({})
    assert EventAccumulator(str(tmp_path / "tb")).Reload().Tags()["scalars"] == ["loss"]


class Service:
    """Stands for the package ``wandb``."""

    Error = type("Error", (Exception,), {})

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.logged: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.finished = 0

    def init(self, **options: object) -> SimpleNamespace:
        self.begun.append(options)
        return SimpleNamespace(
            id="run1", log=self.logged.append, summary=self.summary, finish=lambda: setattr(self, "finished", 1)
        )

    def Image(self, picture: np.ndarray) -> tuple[int, ...]:
        return picture.shape


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    service = Service()
    monkeypatch.setitem(sys.modules, "wandb", service)
    monkeypatch.setattr(trackers, "find_spec", lambda name: True)
    return service


def test_a_resumed_training_goes_on_with_its_run(
    service: Service, command: Command, write_options: WriteOptions, tmp_path: Path
) -> None:
    options = write_options(**VALIDATED)
    arguments = ("-opt", options, "--auto_resume", "--set", "logger.wandb=team/denoising")
    assert command("train.py", *arguments, "train.total_iter=3")[0] == 0
    status, output = command("train.py", *arguments)
    assert status == 0, output
    first, second = service.begun
    assert (first["project"], first["entity"], first["name"], first["id"]) == ("denoising", "team", "tiny", None)
    assert (second["id"], second["resume"]) == ("run1", "allow")
    assert first["config"]["train.optim.lr"] == 1e-3 and service.finished
    assert {entry["iteration"] for entry in service.logged} == {2, 3, 4, 6}
    assert any(name.startswith("val/") and name.endswith("/psnr") for name in service.summary), service.summary


def test_pictures_and_refusals(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = WeightsAndBiases("p", "n", tmp_path, {})
    tracker.open(1)
    tracker.picture(4, "val/a", np.zeros((3, 5, 3), np.uint8))
    assert service.logged == [{"val/a": (3, 5, 3), "iteration": 4}]

    def refuse(**options: object) -> None:
        raise service.Error("not logged in")

    monkeypatch.setattr(service, "init", refuse)
    with pytest.raises(UserError, match=r"not logged in.*WANDB_MODE=offline"):
        tracker.open(1)
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install \"atbsn\[wandb\]\""):
        WeightsAndBiases("p", "n", tmp_path, {})


def test_the_service_itself_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    tracker = WeightsAndBiases("p", "n", tmp_path, {"train.lr": 0.1})
    tracker.open(1)
    tracker.scalars(1, {"train/loss": 3.0})
    tracker.picture(1, "val/a", np.zeros((8, 8, 3), np.uint8))
    tracker.flush()
    tracker.close({"val/net/psnr": 30.0})
    (kept,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert (tmp_path / "wandb.txt").read_text().strip() in kept.name and kept.stat().st_size
