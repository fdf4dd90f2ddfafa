"""An iteration that is recorded and repeated, as a CUDA graph is, trains as one that Python goes through each time."""

import copy
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.methods import built
from helpers.recording import Operators, Rerun
from torch import nn

from atbsn.engine.training.checkpoint import Learner
from atbsn.engine.training.graph import WARM_UP, CudaRecorder, GraphedStep
from atbsn.engine.training.loggers import LossMeter
from atbsn.engine.training.optimization import build_ema, build_optimizer, build_scheduler
from atbsn.engine.training.step import TrainingStep
from atbsn.options.optimization import SGD, Adam
from atbsn.options.schema import Train
from atbsn.registry import MODELS
from atbsn.utils.types import Precision

ITERATIONS = 6
CPU = torch.device("cpu")
READING = (
    "aten._local_scalar_dense",
    "aten.nonzero",
    "aten.masked_select",
    "aten._unique",
    "aten.unique",
    "aten.equal",
)
"""Operators whose result, or its size, Python has to wait for."""


def learner_of(model: Any, **changes: Any) -> Learner:
    train = Train(**{"total_iter": ITERATIONS, "optim": Adam(type="Adam", lr=1e-3), "ema_decay": 0.5, **changes})
    optimizer = build_optimizer(train, model.net)
    if isinstance(train.optim, SGD):  # fused, as on a GPU
        how: dict[str, Any] = {"lr": train.optim.lr, "momentum": train.optim.momentum}
        optimizer = torch.optim.SGD(model.net.parameters(), fused=True, **how)
    average, scheduler = build_ema(train, model.net), build_scheduler(train, optimizer)
    scaler = torch.amp.GradScaler(optimizer.param_groups[0]["params"][0].device.type, enabled=train.precision == "fp16")
    return Learner(model, average, optimizer, scheduler, scaler, LossMeter())


def batches_of(side: int, accumulate: int = 1) -> Iterator[list[dict[str, torch.Tensor]]]:
    generator = torch.Generator().manual_seed(5)

    def batch() -> dict[str, torch.Tensor]:
        noisy = torch.rand(2, 3, side, side, generator=generator) * 255
        return {"noisy": noisy, "index": torch.randperm(2, generator=generator)}

    for _ in range(ITERATIONS):
        yield [batch() for _ in range(accumulate)]


def trained(
    learner: Learner, make_step: Callable[..., Any], batches: Iterable[Any], device: torch.device = CPU
) -> tuple[dict[str, Any], list[Any], list[float]]:
    """Weights, average and moments after training, the losses of each iteration, and the last learning rate."""
    torch.manual_seed(3)
    seen = []
    for done, micro_batches in enumerate(batches):
        moved = [{name: value.to(device) for name, value in batch.items()} for batch in micro_batches]
        outcome = make_step(moved, torch.full((), done / ITERATIONS, device=device))
        learner.scheduler.step()
        assert outcome.finite.tolist() == [True, True]
        seen.append({name: float(value) for name, value in outcome.losses.items()})
    tensors = {f"net {name}": value for name, value in learner.model.net.state_dict().items()}
    tensors |= {f"average {name}": value for name, value in learner.ema.state_dict().items()}
    for number, moments in enumerate(learner.optimizer.state_dict()["state"].values()):
        tensors |= {f"{number} {name}": value for name, value in moments.items() if value is not None}
    return tensors, seen, [group["lr"] for group in learner.optimizer.param_groups]


def assert_same(
    one: tuple[dict[str, Any], list[Any], list[float]], other: tuple[dict[str, Any], list[Any], list[float]]
) -> None:
    """Within rounding: of the learning rate, which a recorded iteration reads as float32, and of sums over threads."""
    (tensors, seen, rates), (other_tensors, other_seen, other_rates) = one, other
    assert rates == other_rates
    for losses, other_losses in zip(seen, other_seen, strict=True):
        assert other_losses == pytest.approx(losses, rel=1e-4)
    assert tensors.keys() == other_tensors.keys()
    for key, value in tensors.items():
        close = partial(torch.testing.assert_close, rtol=1e-3, atol=3e-5, msg=partial("{}: {}".format, key))
        close(other_tensors[key], value)


def compare(name: str, folder: Path, accumulate: int = 1, clip: float | None = None, **changes: Any) -> None:
    model, side = built(name, folder, side=32)
    results = []
    for recorded in (False, True):
        learner = learner_of(copy.deepcopy(model).train(), **changes)
        step, recorder = TrainingStep(learner, learner.model, clip, "fp32", CPU), Rerun(learner)
        make_step = GraphedStep(step, recorder) if recorded else step
        results.append(trained(learner, make_step, batches_of(side, accumulate)))
    assert recorder.replays == ITERATIONS - 3
    assert_same(*results)


@pytest.mark.parametrize("name", list(MODELS))
def test_a_recorded_iteration_trains_the_same(name: str, tmp_path: Path) -> None:
    """Learning rate, progress, patches, average and random numbers are those of each iteration."""
    compare(name, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"accumulate": 2, "clip": 1.0},
        {"optim": Adam(type="AdamW", lr=1e-3, weight_decay=0.1)},
        {"optim": SGD(type="SGD", lr=1e-4, momentum=0.9)},
    ],
)
def test_with_other_settings_too(changes: dict[str, Any], tmp_path: Path) -> None:
    compare("BSNModel", tmp_path, **changes)


@pytest.mark.parametrize("name", list(MODELS))
def test_no_iteration_reads_a_number_from_a_tensor(name: str, tmp_path: Path) -> None:
    """On a GPU each such reading would wait for all that is under way."""
    model, side = built(name, tmp_path, side=32)
    learner = learner_of(model.train())
    step = TrainingStep(learner, model, 1.0, "fp32", CPU)
    batches = list(batches_of(side))
    step(batches[0], torch.zeros(()))
    with Operators(learner) as operators:
        step(batches[1], torch.zeros(()))
    assert len(operators.calls) > 100
    assert not [each for each in operators.names() if each.startswith(READING)]


@pytest.mark.parametrize("name", ["BSNModel", "CBSNModel", "DistillModel"])
def test_compiled_and_recorded(name: str, tmp_path: Path) -> None:
    """Compiled in the first iterations, once; then what was compiled is recorded, and repeated without Python."""
    torch._dynamo.reset()
    model, side = built(name, tmp_path, side=32)
    compiled, ran = [], []

    def backend(graph: Any, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        compiled.append(len(graph.graph.nodes))

        def run(*given: Any) -> Any:
            ran.append(len(compiled))
            return graph(*given)

        return run

    results = []
    for together in (False, True):
        learner = learner_of(copy.deepcopy(model).train())
        step, recorder = TrainingStep(learner, learner.model, 1.0, "fp32", CPU), Rerun(learner)
        if together:
            learner.model.compile(backend=backend, dynamic=False)
        results.append(trained(learner, GraphedStep(step, recorder) if together else step, batches_of(side)))
    assert_same(*results)
    assert len(compiled) == 1
    assert len(ran) in (WARM_UP, WARM_UP + 1), "not run by Python again"
    assert recorder.replays == ITERATIONS - WARM_UP


class Reader(nn.Module):
    """A method whose loss is not made of tensors alone."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: dict[str, torch.Tensor], progress: torch.Tensor) -> dict[str, torch.Tensor]:
        loss = self.net(batch["noisy"]).square().mean()
        return {"loss": loss * float(loss.detach() / 1000)}


class Refusing(Rerun):
    def watch(self, *given: Any) -> tuple[Any, str]:
        return self.warm_up(*given), "waits for the device"


def test_a_method_that_cannot_be_recorded_trains_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("atbsn"), "propagate", True)
    caplog.set_level(logging.INFO, "atbsn")
    model, side = built("BSNModel", tmp_path, side=32)
    results = []
    for graphed in (False, True):
        learner = learner_of(Reader(copy.deepcopy(model.net)).train())
        step, recorder = TrainingStep(learner, learner.model, None, "fp32", CPU), Refusing(learner)
        results.append(trained(learner, GraphedStep(step, recorder) if graphed else step, batches_of(side)))
        assert recorder.replays == 0
    assert_same(*results)
    assert "Reader trains without a CUDA graph: it waits for the device" in caplog.text


# --- on a GPU -----------------------------------------------------------------------------------------------------


def on_gpu(
    model: Any, graphed: bool, precision: Precision = "fp32", clip: float | None = 1.0, compiled: bool = False
) -> tuple[Learner, Any]:
    device = torch.device("cuda")
    learner = learner_of(copy.deepcopy(model).to(device).train())
    if compiled:
        learner.model.compile(dynamic=False)
    step = TrainingStep(learner, learner.model, clip, precision, device)
    return learner, GraphedStep(step, CudaRecorder(device)) if graphed else step


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", list(MODELS))
def test_a_captured_iteration_trains_the_same(name: str, precision: Precision, tmp_path: Path) -> None:
    model, side = built(name, tmp_path, side=32)
    results = []
    for graphed in (False, True):
        learner, make_step = on_gpu(model, graphed, precision)
        results.append(trained(learner, make_step, batches_of(side), torch.device("cuda")))
    assert make_step.captured
    (tensors, seen, _), (other_tensors, other_seen, _) = results
    for losses, other_losses in zip(seen, other_seen, strict=True):
        assert other_losses == pytest.approx(losses, rel=1e-2 if precision == "bf16" else 1e-3)
    assert tensors["average n_averaged"] == other_tensors["average n_averaged"] == ITERATIONS


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["BSNModel", "CBSNModel", "DistillModel", "RenoiseModel"])
def test_a_compiled_and_captured_iteration_trains_the_same(name: str, tmp_path: Path) -> None:
    """Within rounding: the compiler adds up in another order. Random numbers are other ones, too."""
    model, side = built(name, tmp_path, side=32)
    seen = []
    for together in (False, True):
        learner, make_step = on_gpu(model, together, compiled=together)
        _, losses, _ = trained(learner, make_step, batches_of(side), torch.device("cuda"))
        seen.append([each["loss"] for each in losses])
    assert make_step.captured
    assert seen[1] == pytest.approx(seen[0], rel=0.5 if name == "RenoiseModel" else 0.02)


@pytest.mark.gpu
def test_what_cannot_be_captured_is_said_and_trained_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("atbsn"), "propagate", True)
    caplog.set_level(logging.INFO, "atbsn")
    model, side = built("BSNModel", tmp_path, side=32)
    results = []
    for graphed in (False, True):
        learner, make_step = on_gpu(Reader(model.net), graphed)
        results.append(trained(learner, make_step, batches_of(side), torch.device("cuda")))
    assert not make_step.captured
    assert_same(*results)
    assert "Reader trains without a CUDA graph: it waits for the device" in caplog.text
