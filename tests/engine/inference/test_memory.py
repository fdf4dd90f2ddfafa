"""What a pass takes at its peak, of which nothing is kept for gradients."""

import pytest
import torch
from torch import nn

from atbsn.engine.inference.memory import _UNSEEN, Watch, bytes_per_pixel

CPU = torch.device("cpu")
SAMPLES = 3 * 4
"""Bytes of a pixel in float32."""


def test_what_lives_at_once_counts_and_what_is_gone_does_not() -> None:
    with Watch() as watch:
        first = torch.ones(100)
        del first
        second = torch.ones(50)
        third = second.view(5, 10)  # the same memory
        assert watch.peak == 400
        fourth = torch.cat((second, third.flatten(), second))
    assert watch.peak == 200 + 600 and watch.operators >= 4
    assert len(fourth) == 150


def test_a_pass_keeps_nothing_for_gradients() -> None:
    """A product with weights that learn would keep each of its 20 inputs; two live at once, and the first as well."""
    scale = nn.Parameter(torch.tensor(1.01))

    def chain(x: torch.Tensor) -> torch.Tensor:
        for _ in range(20):
            x = x * scale
        return x

    assert bytes_per_pixel(chain, CPU) == pytest.approx(_UNSEEN * 2 * SAMPLES, rel=0.01)


def test_a_network_for_one_channel_takes_a_colour_picture_as_three() -> None:
    seen: list[tuple[int, ...]] = []

    def double(x: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x.shape))
        return x + x

    assert bytes_per_pixel(double, CPU, channels=1) == bytes_per_pixel(double, CPU) == _UNSEEN * SAMPLES
    assert bytes_per_pixel(double, CPU, channels=4) == _UNSEEN * 4 * 4
    assert [shape[:2] for shape in seen] == [(3, 1), (1, 3), (1, 4)]
