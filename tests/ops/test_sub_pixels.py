import pytest
import torch

from atbsn.ops.sub_pixels import NUM_INPUTS, draw_order, split_cells
from atbsn.utils.errors import UserError


def test_a_block_and_all_others_of_each_cell() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 20, 15)
    order = draw_order(x)
    assert order.shape == (2, 4, 3, 25)
    assert torch.equal(order.sort(dim=-1).values, torch.arange(25).expand(2, 4, 3, 25))
    target, inputs = split_cells(x, order)
    assert (target.shape, inputs.shape) == ((2, 3, 8, 6), (21, 2, 3, 4, 3)) and NUM_INPUTS == 21
    for picture in range(2):
        for row in range(4):
            for column in range(3):
                cell = x[picture, :, 5 * row : 5 * row + 5, 5 * column : 5 * column + 5]
                block = target[picture, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                places = [(i, j) for i in range(4) for j in range(4)]
                assert sum(torch.equal(block, cell[:, i : i + 2, j : j + 2]) for i, j in places) == 1
                pixels = torch.cat((block.flatten(1), inputs[:, picture, :, row, column].T), dim=1)
                assert torch.equal(pixels[0].sort().values, cell[0].flatten().sort().values)
                assert {tuple(pixel) for pixel in pixels.T.tolist()} == {tuple(p) for p in cell.flatten(1).T.tolist()}


def test_blocks_and_orders_are_drawn_alike() -> None:
    torch.manual_seed(0)
    order = draw_order(torch.zeros(4, 1, 200, 200)).flatten(0, 2)
    corners = order[:, 0].bincount(minlength=25).float() / len(order)
    allowed = [5 * i + j for i in range(4) for j in range(4)]
    assert corners.nonzero().flatten().tolist() == allowed
    assert (corners[allowed] * 16 - 1).abs().max() < 0.25
    centre = (order[:, 4:] == 0).float().mean(dim=0)  # the corner of a cell is an input in 15 of 16, anywhere
    assert (centre * 21 * 16 / 15 - 1).abs().max() < 0.25


def test_wrong_size() -> None:
    with pytest.raises(UserError, match=r"patch of 20 x 32 pixels: not a multiple of the cell of 5"):
        draw_order(torch.zeros(1, 3, 20, 32))
