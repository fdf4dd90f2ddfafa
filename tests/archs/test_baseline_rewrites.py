"""What is computed in a cheaper way than its paper writes it equals the plain form in scripts/naive_baselines.py."""

from typing import Any

import pytest
import torch
from helpers.networks import pair, picture
from torch._dynamo.testing import CompileCounterWithBackend

import naive_baselines as naive
from atbsn.archs import build_arch
from atbsn.models.apbsn import APBSNModel
from atbsn.models.blind2unblind import Blind2UnblindModel
from atbsn.models.neighbor2neighbor import Neighbor2NeighborModel
from atbsn.models.sdap import SDAPModel

VARIANTS = ("n2n", "b2u", "sass")
CASES = {
    "APBSN": ({"type": "APBSN", "width": 4}, APBSNModel, 60),
    "SDAP": ({"type": "SDAP", "width": 4}, SDAPModel, 60),
    "n2n": ({"type": "UNet", "variant": "n2n", "width": 4}, Neighbor2NeighborModel, 64),
    "b2u": ({"type": "UNet", "variant": "b2u", "width": 4}, Blind2UnblindModel, 32),
}


@torch.no_grad()
def test_apbsn() -> None:
    ours, plain = pair(naive, "APBSN", width=4)
    x = picture(40, 60, batch=2)
    for stride in (1, 2, 5):
        torch.testing.assert_close(ours(x, pd=stride), plain(x, pd=stride))
    for p in (0.0, 1.0):  # nothing is left to chance
        torch.testing.assert_close(ours.denoise(x, p=p), plain.denoise(x, p=p))


@torch.no_grad()
def test_sdap() -> None:
    ours, plain = pair(naive, "SDAP", width=4)
    x = picture(40, 60, batch=2)
    torch.testing.assert_close(ours.denoise(x, enhance=True), plain.denoise(x))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_unet(variant: str, memory_format: torch.memory_format) -> None:
    ours, plain = pair(naive, "UNet", variant=variant, width=4)
    x = picture(32, 96, batch=2)
    y = x.contiguous(memory_format=memory_format)
    ours = ours.to(memory_format=memory_format)
    torch.testing.assert_close(ours(y), plain.denoise(x))
    torch.testing.assert_close(ours.denoise(y, beta=20.0), plain.denoise_visible(x))


def test_losses_without_chance() -> None:
    x = picture(32, 32)
    ours, plain = pair(naive, "APBSN", width=4)
    whole, start = picture(40, 60), torch.tensor(0.0)
    torch.testing.assert_close(APBSNModel(ours)({"noisy": whole}, start)["loss"], naive.apbsn_loss(plain, whole))
    ours, plain = pair(naive, "UNet", variant="b2u", width=4)
    loss = Blind2UnblindModel(ours)({"noisy": x}, start)["loss"]
    torch.testing.assert_close(loss, naive.blind2unblind_loss(plain, x))


def test_losses_on_average() -> None:
    """SDAP's permutations and N2N's pairs: the plain losses have the same mean over draws."""
    torch.manual_seed(0)
    x = picture(20, 20)
    ours, plain = pair(naive, "SDAP", width=2, num_modules=1)
    plain_losses = torch.stack([naive.sdap_loss(plain, x).detach() for _ in range(30)])
    model: Any = SDAPModel(ours)
    losses = torch.stack([model({"noisy": x}, torch.tensor(0.0))["loss"].detach() for _ in range(30)])
    assert abs(losses.mean() - plain_losses.mean()) < 4 * (losses.var() / 15).sqrt()

    ours, plain = pair(naive, "UNet", variant="n2n", width=2)
    x = picture(64, 64)
    plain_losses = torch.stack([naive.neighbor2neighbor_loss(plain, x).detach() for _ in range(30)])
    model = Neighbor2NeighborModel(ours)
    losses = torch.stack([model({"noisy": x}, torch.tensor(0.495))["loss"].detach() for _ in range(30)])
    assert abs(losses.mean() - plain_losses.mean()) < 4 * (losses.var() / 15).sqrt()


@pytest.mark.parametrize("case", CASES)
def test_training_and_denoising_compile_without_breaks(case: str) -> None:
    options, method, size = CASES[case]
    torch.manual_seed(0)
    model, backend = method(build_arch(options)), CompileCounterWithBackend("eager")
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    batch = {"noisy": torch.rand(1, 3, size, size) * 255}
    for progress in (0.1, 0.9):
        compiled(batch, torch.tensor(progress))["loss"].backward()
    assert backend.frame_count == 1
