import pytest
import torch

from atbsn.ops.padding import has_any_size, pad_to_multiple, reflect_pad


def reflected(place: int, length: int) -> int:
    """Which of ``length`` values is at ``place``, if they are read there and back without end, the outermost once."""
    period = max(1, 2 * (length - 1))
    return min(place % period, period - place % period) if length > 1 else 0


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (4, 1), (5, 9)])
@pytest.mark.parametrize(
    "pads",
    [(0, 0, 0, 0), (1, 0, 0, 2), (0, 4, 3, 0), (7, 20, 31, 2), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)],
)
def test_reflection_at_any_size(size: tuple[int, int], pads: tuple[int, int, int, int]) -> None:
    """As NumPy's from 2 on; NumPy 1 begins anew where it reflects more often than once."""
    x = torch.rand(2, 3, *size)
    left, right, top, bottom = pads
    rows = [reflected(row, size[0]) for row in range(-top, size[0] + bottom)]
    columns = [reflected(column, size[1]) for column in range(-left, size[1] + right)]
    assert torch.equal(reflect_pad(x, *pads), x[:, :, rows][..., columns])


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (32, 64), (45, 70), (64, 5)])
def test_pads_at_the_bottom_and_on_the_right(size: tuple[int, int]) -> None:
    x = torch.rand(1, 3, *size)
    height, width = size
    padded = pad_to_multiple(x, 32)
    assert padded.shape == (1, 3, -(-height // 32) * 32, -(-width // 32) * 32)
    assert torch.equal(padded[..., :height, :width], x)


def test_a_multiple_is_not_copied() -> None:
    x = torch.rand(1, 3, 32, 64)
    assert pad_to_multiple(x, 32).data_ptr() == x.data_ptr()


@pytest.mark.parametrize("size", [(5, 9), (2, 40)])
def test_every_padded_pixel_gives_its_gradient_back(size: tuple[int, int]) -> None:
    x = torch.rand(1, 3, *size, requires_grad=True)
    padded = pad_to_multiple(x, 32)
    padded.sum().backward()
    assert x.grad.min() >= 1
    assert x.grad.sum() == padded.numel()


@pytest.mark.parametrize(("symbols", "expected"), [((), False), ((0,), False), ((2,), True), ((3,), True)])
def test_a_height_or_width_that_is_a_symbol_is_any_size(symbols: tuple[int, ...], expected: bool) -> None:
    seen = []

    class Looking(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(has_any_size(x))
            return x + 1

    shapes = {"x": {dim: torch.export.Dim(f"side{dim}") for dim in symbols}}
    torch.export.export(Looking(), (torch.rand(2, 3, 6, 7),), dynamic_shapes=shapes, strict=False)
    assert seen == [expected]
