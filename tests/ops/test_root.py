"""The square-root curve of linear light."""

import pytest
import torch

from atbsn.ops.root import from_root, to_root


def test_there_and_back() -> None:
    values = torch.linspace(-40, 300, 2001, dtype=torch.float64)
    curved = to_root(values)
    assert torch.allclose(from_root(curved), values, atol=1e-9)
    assert (curved.diff() > 0).all() and to_root(torch.tensor(255.0)).item() == pytest.approx(255)


@pytest.mark.parametrize("shot", [1e-3, 1e-2])
def test_shot_noise_is_as_strong_everywhere(shot: float) -> None:
    """Variance a x: within 12 % of s sqrt(a) / 2 from a tenth of white on."""
    torch.manual_seed(0)
    x = torch.tensor([0.1, 0.3, 0.9])[:, None].expand(-1, 200_000)
    noisy = x + torch.randn_like(x) * (shot * x).sqrt()
    found = to_root(noisy * 255).std(dim=1) / 255
    assert found.tolist() == pytest.approx([(shot / 1.01) ** 0.5 / 2] * 3, rel=0.12)


def test_gradients_are_finite_everywhere() -> None:
    values = torch.linspace(-40, 300, 101, requires_grad=True)
    from_root(to_root(values)).sum().backward()
    assert torch.allclose(values.grad, torch.ones_like(values), atol=1e-4)


def test_values_of_the_curve() -> None:
    """s sqrt(x + 0.01) with s = 1 / sqrt(1.01); below 0 its tangent there, which has the slope 5 s."""
    shares = torch.tensor([-1.0, -0.1, 0.0, 0.0001, 0.03, 0.24, 1.0, 1.5], dtype=torch.float64)
    rooted = [0.1 + 5 * x if x < 0 else (x + 0.01) ** 0.5 for x in shares.tolist()]
    expected = torch.tensor(rooted, dtype=torch.float64) / 1.01**0.5
    torch.testing.assert_close(to_root(255 * shares), 255 * expected)
    torch.testing.assert_close(from_root(255 * expected), 255 * shares)
