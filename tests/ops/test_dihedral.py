import pytest
import torch

from atbsn.ops.dihedral import FLIPS, ORIENTATIONS, ROTATIONS, dihedral, undihedral


def square(batch: int = 8, size: int = 5) -> torch.Tensor:
    return torch.arange(batch * 3 * size * size).view(batch, 3, size, size)


def test_orientations_are_the_eight_of_a_square() -> None:
    x = square(1)
    seen = {tuple(dihedral(x, o).flatten().tolist()) for o in ORIENTATIONS}
    turned = [torch.rot90(x, k, (-2, -1)) for k in range(4)]
    expected = {tuple(y.flatten().tolist()) for x in turned for y in (x, x.flip(-1))}
    assert seen == expected
    assert len(seen) == 8


@pytest.mark.parametrize("k", range(4))
def test_rotations_are_quarter_turns(k: int) -> None:
    x = torch.rand(2, 3, 4, 7)
    assert torch.equal(dihedral(x, ROTATIONS[k]), torch.rot90(x, k, (-2, -1)))


def test_flips_keep_rows_and_columns_apart() -> None:
    x = torch.rand(2, 3, 4, 7)
    expected = [x, x.flip(-1), x.flip(-2), x.flip(-1, -2)]
    assert all(torch.equal(dihedral(x, o), y) for o, y in zip(FLIPS, expected, strict=True))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_inverse_of_any_rectangle(orientation: int) -> None:
    x = torch.rand(2, 3, 4, 7)
    assert torch.equal(undihedral(dihedral(x, orientation), orientation), x)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_one_orientation_a_sample_is_the_same_as_one_by_one(dtype: torch.dtype) -> None:
    x = square().to(dtype)
    orientation = torch.tensor([3, 0, 6, 5, 1, 7, 2, 4])
    one_by_one = torch.cat([dihedral(x[i : i + 1], int(o)) for i, o in enumerate(orientation)])
    assert torch.equal(dihedral(x, orientation), one_by_one)
    assert torch.equal(undihedral(dihedral(x, orientation), orientation), x)


def test_batches_come_out_channels_last() -> None:
    assert dihedral(square(), torch.arange(8)).is_contiguous(memory_format=torch.channels_last)


def test_traced_without_a_graph_break() -> None:
    compiled = torch.compile(dihedral, backend="eager", fullgraph=True)
    x, orientation = square(), torch.arange(8)
    assert torch.equal(compiled(x, orientation), dihedral(x, orientation))
