"""C-BSN's sub-samplings: phases as batch items, and one random pixel a cell."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from atbsn.ops.subsample import batch_to_space, draw_positions, space_to_batch, subsample
from atbsn.utils.errors import UserError

BATCH, CHANNELS, HEIGHT, WIDTH = 2, 3, 20, 30


@pytest.fixture
def x() -> torch.Tensor:
    return torch.arange(BATCH * CHANNELS * HEIGHT * WIDTH).float().view(BATCH, CHANNELS, HEIGHT, WIDTH)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_space_to_batch_holds_every_phase(x: torch.Tensor, stride: int, memory_format: torch.memory_format) -> None:
    phases = space_to_batch(x.contiguous(memory_format=memory_format), stride)
    assert phases.shape == (stride**2 * BATCH, CHANNELS, HEIGHT // stride, WIDTH // stride)
    for row in range(stride):
        for column in range(stride):
            for picture in range(BATCH):
                phase = phases[(row * stride + column) * BATCH + picture]
                assert torch.equal(phase, x[picture, :, row::stride, column::stride])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_batch_to_space_is_the_inverse_and_keeps_the_memory_format(
    x: torch.Tensor, memory_format: torch.memory_format
) -> None:
    x = x.contiguous(memory_format=memory_format)
    phases = space_to_batch(x, 5)
    assert phases.is_contiguous(memory_format=memory_format)
    whole = batch_to_space(phases, 5)
    assert torch.equal(whole, x) and whole.is_contiguous(memory_format=memory_format)


def test_subsample_picks_one_pixel_a_cell_for_all_channels(x: torch.Tensor) -> None:
    picked = subsample(x, draw_positions(x, 2), 2)
    assert picked.shape == (BATCH, CHANNELS, HEIGHT // 2, WIDTH // 2)
    cells = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).transpose(3, 4).flatten(4)
    hits = cells == picked.unsqueeze(-1)
    assert (hits.sum(dim=-1) == 1).all()
    assert (hits == hits[:, :1]).all(), "the channels of a pixel stay together"


def test_one_draw_serves_two_tensors(x: torch.Tensor) -> None:
    positions = draw_positions(x, 2)
    assert torch.equal(subsample(x + 1000, positions, 2), subsample(x, positions, 2) + 1000)
    channels_last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(subsample(channels_last, positions, 2), subsample(x, positions, 2))


def test_every_position_is_as_likely() -> None:
    torch.manual_seed(0)
    width = 200
    positions = draw_positions(torch.zeros(8, 3, 200, width), 2).flatten()
    inside = positions // width % 2 * 2 + positions % width % 2
    shares = torch.bincount(inside, minlength=4) / inside.numel()
    assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.01)


def test_the_draw_follows_the_global_generator(x: torch.Tensor) -> None:
    torch.manual_seed(7)
    first, second = draw_positions(x, 2), draw_positions(x, 2)
    torch.manual_seed(7)
    assert torch.equal(first, draw_positions(x, 2))
    assert not torch.equal(first, second)


def test_the_gradient_goes_to_the_picked_pixels(x: torch.Tensor) -> None:
    x.requires_grad_()
    positions = draw_positions(x, 2)
    subsample(x, positions, 2).sum().backward()
    picked = torch.zeros(BATCH, 1, HEIGHT * WIDTH).scatter_(2, positions, 1.0).view(BATCH, 1, HEIGHT, WIDTH)
    assert torch.equal(x.grad, picked.expand_as(x))


@pytest.mark.parametrize("function", [space_to_batch, draw_positions])
def test_a_size_that_is_no_multiple_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"121 x 120 .* stride 5; crop to 120 x 120"):
        function(torch.zeros(1, 3, 121, 120), 5)


def test_an_incomplete_set_of_phases_is_refused() -> None:
    with pytest.raises(UserError, match="24 sub-images"):
        batch_to_space(torch.zeros(24, 3, 4, 4), 5)
