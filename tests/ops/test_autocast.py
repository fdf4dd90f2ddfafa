"""The number types in which products are computed."""

import pytest
import torch

from atbsn.ops.autocast import computed_in, outside_autocast


@pytest.mark.parametrize("given", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("to", [torch.bfloat16, torch.half])
def test_in_the_type_of_autocast_where_it_is_on(given: torch.dtype, to: torch.dtype) -> None:
    x = torch.ones(2, 2).to(given)
    assert computed_in(x) == given
    with torch.autocast("cpu", to):
        assert computed_in(x) == (to if given.is_floating_point else given)
        assert computed_in(x.to("meta")) == given
        with torch.autocast("cpu", enabled=False):
            assert computed_in(x) == given


def test_outside_of_autocast_types_stay() -> None:
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with outside_autocast(x.device):
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16
        with outside_autocast(torch.device("meta")):  # which has no autocast
            assert (x.to("meta") @ x.to("meta")).shape == (2, 2)
