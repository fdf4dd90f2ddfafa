"""A loss or gradient that is not finite stops the run before anything of it is written, or is skipped if asked."""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.kinds import Command, WriteOptions
from torch import nn
from training_runs import At, Run, tiny

from atbsn.engine.training.checkpoint import Learner
from atbsn.engine.training.finite import FiniteGuard
from atbsn.engine.training.loggers import LossMeter
from atbsn.engine.training.step import TrainingStep
from atbsn.engine.training.trainer import Schedule, Trainer
from atbsn.models.bsn import BSNModel
from atbsn.utils.errors import UserError

NAN, INF = float("nan"), float("inf")


class Spoiled(torch.autograd.Function):
    """Finite forwards, not finite backwards."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> Any:
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * NAN


def nan_loss(loss: torch.Tensor) -> torch.Tensor:
    return loss * NAN


def inf_loss(loss: torch.Tensor) -> torch.Tensor:
    return loss * INF


def nan_gradient(loss: torch.Tensor) -> torch.Tensor:
    return Spoiled.apply(loss)


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``spoil(how, 5, 6)``: what comes out of the losses of iterations 5 and 6."""

    def patch(how: Callable[[torch.Tensor], torch.Tensor], *iterations: int) -> None:
        calls, original = iter(range(1, 1000)), BSNModel.losses

        def losses(*arguments: Any) -> dict[str, torch.Tensor]:
            result = original(*arguments)
            return {"loss": how(result["loss"])} if next(calls) in iterations else result

        monkeypatch.setattr(BSNModel, "losses", losses)

    return patch


def tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors(item)


def assert_finite_files(folder: Path, *names: str) -> None:
    """Nothing but ``names`` was saved, and all of it is finite."""
    files = {path.name: path for path in folder.glob("*/*") if path.suffix in (".pth", ".state")}
    assert set(files) == {*names, "net_latest.pth"}
    for path in files.values():
        content = torch.load(path, weights_only=True)
        assert all(tensor.isfinite().all() for tensor in tensors(content) if tensor.is_floating_point()), path


@pytest.mark.parametrize("how", [nan_loss, inf_loss, nan_gradient])
@pytest.mark.parametrize("iteration", [4, 6])
def test_it_stops_and_says_where_and_on_what(
    command: Command,
    write_options: WriteOptions,
    tmp_path: Path,
    spoil: Callable[..., None],
    how: Callable[..., Any],
    iteration: int,
) -> None:
    spoil(how, iteration)
    options = write_options(
        logger={"use_tb_logger": True, "print_freq": 100}, train={"ema_decay": 0.5, "total_iter": 9}
    )
    status, output = command("train.py", "-opt", options)
    assert status == 2 and "Traceback" not in output
    (message,) = re.findall(r"ERROR: (iter \d+: loss or gradient is not finite.*)", output)
    assert message.startswith(f"iter {iteration}: ")
    assert "chelsea" in message or "coffee" in message
    assert "net_3.pth" in message and "--auto_resume" in message
    assert_finite_files(tmp_path / "experiments" / "tiny", "net_3.pth", "3.state")


def test_there_may_be_no_good_checkpoint_yet(
    command: Command, write_options: WriteOptions, spoil: Callable[..., None]
) -> None:
    spoil(nan_loss, 2)
    status, output = command("train.py", "-opt", write_options())
    assert status == 2 and "iter 2: " in output and "last good checkpoint: none yet" in output


def test_after_a_stop_it_resumes_with_other_options(
    command: Command, write_options: WriteOptions, tmp_path: Path, spoil: Callable[..., None]
) -> None:
    spoil(nan_loss, 5)
    options = write_options()
    assert command("train.py", "-opt", options)[0] == 2
    status, output = command("train.py", "-opt", options, "--auto_resume", "--set", "train.clip_grad_norm=1.0")
    assert status == 0 and "train.clip_grad_norm is 1.0, was None" in output and "iterations 3 to 6" in output


@pytest.mark.parametrize("how", [nan_loss, inf_loss, nan_gradient])
def test_skipping_leaves_the_step_out(
    command: Command, write_options: WriteOptions, tmp_path: Path, spoil: Callable[..., None], how: Callable[..., Any]
) -> None:
    spoil(how, 4, 6)
    options = write_options(train={"skip_nonfinite": 1, "ema_decay": 0.5}, logger={"save_checkpoint_freq": 1})
    status, output = command("train.py", "-opt", options)
    assert status == 0 and "nan" not in output and "inf" not in output.lower().replace("info", "")
    assert output.count("is not finite; skipped (") == 2
    folder = tmp_path / "experiments" / "tiny"
    weights = [torch.load(folder / "models" / f"net_{iteration}.pth")["params"] for iteration in (3, 4, 5, 6)]
    same = [all(torch.equal(a[name], b[name]) for name in a) for a, b in pairwise(weights)]
    assert same == [True, False, True]
    names = [name for i in range(1, 7) for name in (f"net_{i}.pth", f"{i}.state")]
    assert_finite_files(folder, *names)


def test_skipping_has_an_end(
    command: Command, write_options: WriteOptions, tmp_path: Path, spoil: Callable[..., None]
) -> None:
    spoil(nan_loss, 4, 5)
    status, output = command("train.py", "-opt", write_options(train={"skip_nonfinite": 1}))
    assert status == 2 and "iter 5: loss or gradient is not finite, on" in output
    assert_finite_files(tmp_path / "experiments" / "tiny", "net_3.pth", "3.state")


def nan_from_now_on() -> None:
    losses = BSNModel.losses
    BSNModel.losses = lambda *arguments: {"loss": losses(*arguments)["loss"] * NAN}


@pytest.mark.parametrize("skip", [0, 1])
def test_of_several_processes_the_one_with_the_loss_is_named(tmp_path: Path, skip: int) -> None:
    options = tiny(tmp_path, train={"skip_nonfinite": skip}) | {"val": {}}
    run = Run(tmp_path / "run", options, processes=2)
    outcome = run.train(at=At("step", 5, rank=1), act=nan_from_now_on)
    assert outcome.statuses == [2, 2] and "Traceback" not in outcome.output, outcome.output
    (message,) = re.findall(r"ERROR: (.*)", outcome.output)
    assert message.startswith(f"iter {6 + skip}: ") and "net_4.pth" in message
    assert message.split(" on ")[1].split(";")[0].count(",") <= 1  # of one process: two pictures at most
    assert_finite_files(run.experiment, "net_4.pth", "4.state")


def guard(skip: int = 0, scaler: torch.amp.GradScaler | None = None, last: str = "net_3.pth") -> FiniteGuard:
    scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
    return FiniteGuard(skip, "abc".__getitem__, lambda: last, scaler)


def test_the_first_of_several_bad_iterations_is_named() -> None:
    watch = guard()
    for iteration, loss in enumerate((1.0, INF, 1.0, NAN), start=1):
        watch.remember(torch.tensor([iteration % 3]))
        assert watch.passes(iteration, torch.tensor([loss, 1.0]).isfinite())
    with pytest.raises(UserError, match=r"iter 2: .* on c; last good checkpoint: net_3\.pth"):
        watch.settle()


def test_all_micro_batches_are_named() -> None:
    watch = guard()
    watch.remember(torch.tensor([0, 2]))
    watch.remember(torch.tensor([2, 1]))
    watch.passes(1, torch.tensor([False, True]))
    with pytest.raises(UserError, match="on a, c, b;"):
        watch.settle()


def test_fp16_that_no_scale_makes_finite_stops() -> None:
    watch = guard(scaler=torch.amp.GradScaler("cpu", init_scale=2.0**-11))
    with pytest.raises(UserError, match="fp16: the gradient is not finite however small the loss is scaled"):
        watch.settle()


class Line(nn.Module):
    """The smallest method: its loss is ``scale`` of the batch times its only weight."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1, bias=False)

    def forward(self, batch: dict[str, torch.Tensor], progress: torch.Tensor) -> Any:
        return {"loss": self.net(batch["noisy"].mean().view(1, 1)).squeeze()}


@pytest.mark.parametrize("enabled", [True, False])
def test_fp16_leaves_gradients_to_the_scaler_but_not_losses(monkeypatch: pytest.MonkeyPatch, enabled: bool) -> None:
    model: Any = Line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, enabled=enabled)
    learner = Learner(model, None, optimizer, None, scaler, LossMeter())
    step = TrainingStep(learner, model, None, "fp32", torch.device("cpu"))

    def finite(value: float) -> list[bool]:
        return step([{"noisy": torch.tensor(value)}], torch.zeros(()), passes=lambda finite: False).finite.tolist()

    assert finite(INF) == [False, enabled]
    monkeypatch.setattr(Line, "forward", lambda self, batch, progress: {"loss": Spoiled.apply(self.net.weight.sum())})
    assert finite(1.0) == [True, enabled]


def test_losses_of_an_iteration_are_the_mean_over_its_micro_batches() -> None:
    model: Any = Line()
    model.net.weight.data.fill_(1.0)
    learner = Learner(
        model, None, torch.optim.SGD(model.parameters(), lr=0.1), None, torch.amp.GradScaler(enabled=False), LossMeter()
    )
    step = TrainingStep(learner, model, None, "fp32", torch.device("cpu"))
    outcome = step([{"noisy": torch.tensor(value)} for value in (1.0, 2.0, 6.0)], torch.zeros(()))
    assert outcome.losses["loss"].item() == pytest.approx(3.0) and not outcome.losses["loss"].requires_grad
    assert not step([{"noisy": torch.tensor(value)} for value in (INF, 1.0)], torch.zeros(())).finite[0]


@pytest.mark.parametrize("skip", [0, 1])
def test_a_scaler_goes_on_after_a_bad_step(monkeypatch: pytest.MonkeyPatch, skip: int) -> None:
    """The trainer's own steps with an enabled scaler, whose state a skipped step must not leave half done."""
    model: Any = Line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    learner = Learner(model, None, optimizer, scheduler, scaler, LossMeter())
    values = iter([1.0, INF, 1.0])
    monkeypatch.setattr("atbsn.data.device.to_batch", lambda raw, device: {"noisy": torch.tensor(next(values))})
    batches = iter([{"index": torch.tensor([0])}] * 3)
    watch = guard(skip, scaler)
    trainer = Trainer(learner, batches, watch, None, None, None, Schedule(total_iter=3), torch.device("cpu"))
    weights = []
    for iteration in (1, 2, 3):
        trainer.step(iteration)
        weights.append(model.net.weight.item())
    assert weights[0] == weights[1] != weights[2]  # the scaler skips by itself, and so does the guard
    assert scaler.get_scale() == 2.0
    if not skip:
        with pytest.raises(UserError, match="iter 2"):
            watch.settle()


def test_means_leave_skipped_steps_out() -> None:
    meter = LossMeter()
    meter.add({"loss": torch.tensor(2.0)})
    meter.add({})
    meter.add({"loss": torch.tensor(4.0)})
    assert meter.read() == {"loss": 3.0}
    assert meter.read() == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_nothing_waits_until_it_is_looked_at() -> None:
    watch = guard()
    torch.cuda.set_sync_debug_mode("error")
    try:
        finite = torch.stack((torch.ones((), device="cuda"), torch.full((), INF, device="cuda"))).isfinite()
        for iteration in range(1, 4):
            watch.remember(torch.tensor([0]))
            assert watch.passes(iteration, finite)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with pytest.raises(UserError, match="iter 1"):
        watch.settle()
