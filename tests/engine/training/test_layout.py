"""The layout of weights and batches that a training chooses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.kinds import Command, WriteOptions

from atbsn.engine.training.setup import lay_out
from atbsn.models.cbsn import CBSNModel
from atbsn.options.optimization import Adam
from atbsn.options.schema import Train


@pytest.mark.parametrize(
    ("network", "model", "choice", "precision", "expected"),
    [
        ("CBSN", "CBSNModel", "auto", "fp32", False),
        ("CBSN", "CBSNModel", "auto", "bf16", True),
        ("CBSN", "CBSNModel", True, "fp32", True),
        ("CBSN", "CBSNModel", False, "bf16", False),
        ("LGBPN", "ReconstructionModel", "auto", "bf16", False),  # its 24 channels would have NaN for a gradient
        ("ATBSN", "BSNModel", "auto", "fp32", True),
        ("ATBSN", "BSNModel", False, "fp32", False),
    ],
)
def test_layouts(network: str, model: str, choice: Any, precision: Any, expected: bool) -> None:
    from atbsn import build_arch
    from atbsn.models import build_model

    method = build_model({"type": model}, build_arch({"type": network, "width": 4}))
    train = Train(total_iter=1, optim=Adam(type="Adam", lr=1e-3), channels_last=choice, precision=precision)
    lay_out(method, train, torch.device("cpu"))
    weights = [each for each in method.net.parameters() if each.ndim == 4 and min(each.shape[1:]) > 1]
    assert all(each.is_contiguous(memory_format=torch.channels_last) == expected for each in weights)
    seen = []
    method.losses = lambda batch, progress: seen.append(batch["noisy"]) or {"loss": batch["noisy"].mean()}
    noisy = torch.rand(1, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    method({"noisy": noisy}, torch.tensor(0.0))
    assert seen[0].is_contiguous(memory_format=torch.channels_last) == expected and torch.equal(seen[0], noisy)


def test_a_training_takes_it(command: Command, write_options: WriteOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch of C-BSN in float32 arrives in rows, as its features then are."""
    seen = []

    def losses(
        self: CBSNModel,
        batch: dict[str, torch.Tensor],
        progress: torch.Tensor,
        real: Callable[..., Any] = CBSNModel.losses,
    ) -> Any:
        seen.append(batch["noisy"].is_contiguous())
        return real(self, batch, progress)

    monkeypatch.setattr(CBSNModel, "losses", losses)
    options = write_options(
        network={"type": "CBSN", "width": 4}, model={"type": "CBSNModel"}, train={"total_iter": 2},
        datasets={"train": {"patch_size": 40}},
    )  # fmt: skip
    status, output = command("train.py", "-opt", options)
    assert status == 0 and seen == [True, True], output
