"""Gaussian blur of channels."""

import pytest
import torch

from atbsn.noise.blur import _gaussian, gaussian_blur, level_of, with_level_of


def test_blur_keeps_the_mean_and_has_the_standard_deviation_it_is_asked_for() -> None:
    impulse = torch.zeros(1, 2, 41, 41)
    impulse[..., 20, 20] = 1
    blurred = gaussian_blur(impulse, torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(blurred[:, 0], impulse[:, 0], atol=1e-6, rtol=0)
    offsets = torch.arange(41.0) - 20
    assert (blurred[0, 1].sum(dim=0) * offsets.square()).sum() == pytest.approx(1.0, rel=0.02)


def bell(std: float) -> torch.Tensor:
    """The nine weights of a Gaussian."""
    line = torch.exp(-((torch.arange(9.0) - 4) ** 2) / (2 * std**2)) if std else (torch.arange(9) == 4).float()
    return line / line.sum()


@pytest.mark.parametrize(("across", "down"), [(1.6, 1.6), (0.5, 1.2), (2.0, 0.0), (0.0, 0.7)])
def test_a_blur_is_a_bell_along_rows_and_another_along_columns(across: float, down: float) -> None:
    x = torch.zeros(2, 2, 15, 17)
    x[0, 1, 7, 8] = 2
    std, std_down = torch.zeros(2, 2), torch.ones(2, 2)
    std[0, 1], std_down[0, 1] = across, down
    expected = torch.zeros(15, 17)
    expected[3:12, 4:13] = 2 * torch.outer(bell(down), bell(across))
    found = gaussian_blur(x, std, std_down)
    torch.testing.assert_close(found[0, 1], expected, atol=1e-6, rtol=0)
    assert not found[0, 0].any() and not found[1].any()
    alike = gaussian_blur(x, std)
    expected[3:12, 4:13] = 2 * torch.outer(bell(across), bell(across))
    torch.testing.assert_close(alike[0, 1], expected, atol=1e-6, rtol=0)


def test_a_blur_mirrors_the_picture_at_its_borders() -> None:
    """At the outermost pixels, which are not repeated: the second weighs twice beside the first."""
    x = torch.zeros(1, 1, 9, 9)
    x[..., 1] = 1
    found = gaussian_blur(x, torch.tensor([[1.0]]))
    torch.testing.assert_close(found[0, 0, 4, :2], torch.stack([2 * bell(1)[3], bell(1)[4] + bell(1)[2]]))
    torch.testing.assert_close(gaussian_blur(torch.ones(1, 1, 9, 9), torch.tensor([[1.3]])), torch.ones(1, 1, 9, 9))


def test_the_bells_are_those_of_a_row_of_deviations() -> None:
    found = _gaussian(torch.tensor([[0.0, 1.0], [0.3, 1.6]]))
    torch.testing.assert_close(found[:, 0], torch.stack([bell(std) for std in (0, 1, 0.3, 1.6)]), atol=1e-6, rtol=0)


def test_levels_are_those_of_each_picture() -> None:
    x = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    other = torch.tensor([0.0, 1, 3]).view(3, 1, 1, 1) * torch.ones(3, 2, 8, 8)
    assert level_of(other).flatten().tolist() == [0, 1, 3]
    found = with_level_of(x, other)
    torch.testing.assert_close(level_of(found), level_of(other))
    torch.testing.assert_close(found[2] / found[2, 0, 0, 0], x[2] / x[2, 0, 0, 0])
    assert not with_level_of(torch.zeros(3, 2, 8, 8), other).any()
