"""sRGB's curve against the figures of its standard, on tensors and on arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from atbsn.ops.srgb import linear_to_srgb, srgb_to_linear

# sRGB value of 255 and linear light: IEC 61966-2-1's two branches and their meeting point.
KNOWN = {0.0: 0.0, 0.04045: 0.0031308, 0.5: 0.2140411, 1.0: 1.0}


@pytest.mark.parametrize("make", [torch.tensor, np.array])
def test_known_values_both_ways(make: Callable[..., Any]) -> None:
    srgb, linear = make(list(KNOWN)), make(list(KNOWN.values()))
    np.testing.assert_allclose(np.asarray(srgb_to_linear(srgb)), np.asarray(linear), atol=1e-6)
    np.testing.assert_allclose(np.asarray(linear_to_srgb(linear)), np.asarray(srgb), atol=1e-5)


def test_tensors_and_arrays_agree_and_nothing_is_nan() -> None:
    values = torch.linspace(-0.1, 1.1, 1001, dtype=torch.float64, requires_grad=True)
    for curve in (srgb_to_linear, linear_to_srgb):
        out = curve(values)
        np.testing.assert_allclose(out.detach(), curve(values.detach().numpy()), atol=1e-12)
        assert torch.autograd.grad(out.sum(), values)[0].isfinite().all()
        assert (out.diff() > 0).all()


@pytest.mark.parametrize("make", [torch.tensor, np.array])
def test_the_two_branches_of_the_standard(make: Callable[..., Any]) -> None:
    """Closely on both sides of where they meet, below 0, and beyond 1."""
    for srgb in (-0.3, -0.01, 0.0, 0.02, 0.0404, 0.0406, 0.06, 0.7, 1.2):
        linear = srgb / 12.92 if srgb <= 0.04045 else ((srgb + 0.055) / 1.055) ** 2.4
        assert float(srgb_to_linear(make([srgb]))[0]) == pytest.approx(linear, rel=1e-6)
        assert float(linear_to_srgb(make([linear]))[0]) == pytest.approx(srgb, rel=1e-6)
