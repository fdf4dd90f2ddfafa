from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from atbsn.engine.training.optimization import build_scheduler
from atbsn.options.schema import Train

ADAM: Any = {"type": "Adam", "lr": 1e-4}


@pytest.mark.parametrize(
    ("name", "hold", "total"), [("lr_teacher", 200_000, 500_000), ("lr_student", 100_000, 200_000)]
)
def test_meets_tm_bsns_learning_rates(assets: Path, name: str, hold: int, total: int) -> None:
    scheduler: Any = {"type": "CosineAnnealing", "hold": hold, "eta_min": 1e-6}
    options = Train(total_iter=total, optim=ADAM, scheduler=scheduler)
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1e-4)
    (rate,) = build_scheduler(options, optimizer).lr_lambdas
    golden = load_file(assets / "nbsn102_width8.io.safetensors")
    for step, expected in zip(golden["lr_step"].tolist(), golden[name].tolist(), strict=True):
        assert 1e-4 * rate(step) == pytest.approx(expected, rel=1e-4), step


@pytest.mark.parametrize(
    ("shares", "iterations"),
    [
        ({"type": "CosineAnnealing", "hold": 0.4}, {"type": "CosineAnnealing", "hold": 80}),
        ({"type": "Step", "step_size": 0.2, "warmup_iter": 0.05}, {"type": "Step", "step_size": 40, "warmup_iter": 10}),
        ({"type": "MultiStep", "milestones": [0.4, 0.8]}, {"type": "MultiStep", "milestones": [80, 160]}),
        ({"type": "MultiStep", "milestones": [0.001, 160]}, {"type": "MultiStep", "milestones": [1, 160]}),
    ],
)
def test_lengths_may_be_shares_of_the_training(shares: Any, iterations: Any) -> None:
    rates = []
    for scheduler in (shares, iterations):
        options = Train(total_iter=200, optim=ADAM, scheduler=scheduler)
        optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1e-4)
        (rate,) = build_scheduler(options, optimizer).lr_lambdas
        rates.append([rate(done) for done in range(200)])
    assert rates[0] == rates[1] and min(rates[0]) < 1


@pytest.mark.parametrize(
    "scheduler",
    [
        {"type": "CosineAnnealing", "eta_min": 1e-6},
        {"type": "CosineAnnealing", "hold": 30},
        {"type": "Step", "step_size": 5},
        {"type": "MultiStep", "milestones": [3, 50]},
        {"type": "Constant"},
    ],
)
def test_every_schedule_warms_up(scheduler: Any) -> None:
    """Linearly, to what it would be without; afterwards it is the same."""
    rates = []
    for warmup in ({}, {"warmup_iter": 10}):
        options = Train(total_iter=100, optim=ADAM, scheduler=scheduler | warmup)
        optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1e-4)
        made = build_scheduler(options, optimizer)
        values = []
        for _ in range(100):
            values.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            made.step()
        rates.append(values)
    plain, warmed = rates
    assert warmed == pytest.approx([rate * min(1, (done + 1) / 10) for done, rate in enumerate(plain)])
    assert warmed[9:] == plain[9:] and warmed[0] == pytest.approx(1e-5)
