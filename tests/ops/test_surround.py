"""What a function sees beyond the border, and what it gives back."""

import pytest
import torch
from torch.nn import functional as F

from atbsn.ops.surround import surrounded


@pytest.mark.parametrize("pad", [0, 1, 3])
def test_the_reflection_is_seen_and_cut_off_again(pad: int) -> None:
    x, seen = torch.rand(2, 3, 5, 7), []

    def function(given: torch.Tensor) -> torch.Tensor:
        seen.append(given)
        return torch.stack([given, 2 * given])

    assert torch.equal(surrounded(function, x, pad), torch.stack([x, 2 * x]))
    assert torch.equal(seen[0], F.pad(x, (pad,) * 4, mode="reflect"))
