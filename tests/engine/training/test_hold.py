import pytest
import torch
from safetensors.torch import load_file

from atbsn.engine.training.optimization import build_scheduler
from atbsn.options.schema import Train


@pytest.mark.parametrize(
    ("name", "hold", "total"), [("lr_teacher", 200_000, 500_000), ("lr_student", 100_000, 200_000)]
)
def test_meets_tm_bsns_learning_rates(assets, name, hold, total):
    scheduler = {"type": "CosineAnnealing", "hold": hold, "eta_min": 1e-6}
    options = Train(total_iter=total, optim={"type": "Adam", "lr": 1e-4}, scheduler=scheduler)
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1e-4)
    (rate,) = build_scheduler(options, optimizer).lr_lambdas
    golden = load_file(assets / "nbsn102_width8.io.safetensors")
    for step, expected in zip(golden["lr_step"].tolist(), golden[name].tolist(), strict=True):
        assert 1e-4 * rate(step) == pytest.approx(expected, rel=1e-4), step
