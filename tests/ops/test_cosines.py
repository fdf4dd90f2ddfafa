"""DCT blocks, opponent colours and pooled energy against SciPy's DCT and plain loops."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from atbsn.ops.cosines import dct_blocks, dct_matrix, from_opponent, overlap_add, pooled_energy, to_opponent


def draws(*shape: int) -> torch.Tensor:
    return 50 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("stride", [4, 5, 12])
def test_blocks_are_scipys_dct_of_what_lies_inside(stride: int) -> None:
    """Of 21 x 30 pixels: the last rows and columns fill no block."""
    x = draws(1, 3, 21, 30)
    found = dct_blocks(x, stride).numpy()
    tops, lefts = range(0, 21 - 8 + 1, stride), range(0, 30 - 8 + 1, stride)
    assert found.shape == (3, 64, len(tops), len(lefts))
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            block = x[0, :, top : top + 8, left : left + 8].numpy()
            expected = dctn(block, axes=(1, 2), norm="ortho").reshape(3, 64)
            np.testing.assert_allclose(found[:, :, i, j], expected, atol=1e-3)


def test_blocks_lie_4_pixels_apart_unless_told_otherwise() -> None:
    x = draws(1, 3, 20, 28)
    assert torch.equal(dct_blocks(x), dct_blocks(x, 4))


def test_added_blocks_fade_into_each_other_as_the_square_of_a_sine() -> None:
    blocks = draws(3, 64, 2, 3)
    expected = np.zeros((1, 3, 12, 16))
    fade = np.sin(np.pi * (np.arange(8) + 0.5) / 8) ** 2
    for i in range(2):
        for j in range(3):
            pixels = idctn(blocks[:, :, i, j].reshape(3, 8, 8).numpy(), axes=(1, 2), norm="ortho")
            expected[0, :, 4 * i : 4 * i + 8, 4 * j : 4 * j + 8] += pixels * fade[:, None] * fade
    np.testing.assert_allclose(overlap_add(blocks).numpy(), expected, atol=1e-3)


def test_energy_is_pooled_over_the_frequencies_beside_it() -> None:
    squares = draws(3, 64, 2, 5).square()
    squares[:, 27] = 1e6  # so much that a third of itself is more than the average
    table = squares.reshape(3, 8, 8, 2, 5)
    for u in range(8):
        for v in range(8):
            near = table[:, max(0, u - 1) : u + 2, max(0, v - 1) : v + 2].mean(dim=(1, 2))
            expected = torch.maximum(near, table[:, u, v] / 3)
            torch.testing.assert_close(pooled_energy(squares)[:, 8 * u + v], expected)
    assert torch.equal(pooled_energy(squares)[:, 27], squares[:, 27] / 3)


def test_opponent_colours() -> None:
    x = draws(1, 3, 2, 4)
    red, green, blue = x[0]
    grey, warm, magenta = to_opponent(x)[0]
    torch.testing.assert_close(grey, (red + green + blue) / 3**0.5)
    torch.testing.assert_close(warm, (red - blue) / 2**0.5)
    torch.testing.assert_close(magenta, (red - 2 * green + blue) / 6**0.5)
    torch.testing.assert_close(from_opponent(to_opponent(x)), x)


@pytest.mark.parametrize("side", [2, 3, 8])
def test_the_matrix_of_any_side(side: int) -> None:
    found = dct_matrix(side)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), dctn(np.eye(side), axes=[0], norm="ortho"), atol=1e-12)
