"""Reflected pixels around the picture: the edge comes out like the inside."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.archs import build_arch
from atbsn.archs.base import Network
from atbsn.engine.inference.tiling import Tiler
from atbsn.ops.padding import reflect_pad
from atbsn.registry import ARCHS
from atbsn.utils.errors import UserError

REACH = 2


class ZeroPadded(Network):
    """A mean over 5 x 5 that sees zeros beyond the edge."""

    def forward(self, noisy: Tensor) -> Tensor:
        return F.avg_pool2d(noisy, 2 * REACH + 1, 1, padding=REACH)


@pytest.mark.parametrize("tiled", [None, Tiler(16, 8)])
def test_no_rim(tiled: Tiler | None) -> None:
    grey = torch.full((1, 3, 40, 37), 100.0)
    how: dict[str, Any] = {} if tiled is None else {"tiled": tiled}
    assert ZeroPadded().denoise(grey, **how)[..., 0, 0].max() < 40
    torch.testing.assert_close(ZeroPadded().denoise(grey, **how, margin=REACH), grey)


def test_the_inside_and_margin_0_are_what_they_were() -> None:
    picture = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0)) * 255
    plain, with_margin = ZeroPadded().denoise(picture), ZeroPadded().denoise(picture, margin=5)
    assert torch.equal(plain, ZeroPadded()(picture))
    inside = (..., slice(REACH, -REACH), slice(REACH, -REACH))
    torch.testing.assert_close(with_margin[inside], plain[inside])


@pytest.mark.parametrize("name", sorted(ARCHS))
def test_every_network_that_has_it(name: str) -> None:
    """It is the network on the padded picture, cut off again, with every blind spot."""
    cls = ARCHS.get(name)
    if "margin" not in cls.denoise_keywords():
        return
    torch.manual_seed(0)
    net = build_arch({"type": name, **cls.example()}).eval()
    picture = torch.rand(1, 3, 17, 20, generator=torch.Generator().manual_seed(0)) * 255
    padded = reflect_pad(picture, 32, 32, 32, 32)
    ways: list[dict[str, Any]] = [{"k": 1}, {"k": "mean"}] if "k" in cls.denoise_keywords() else [{}]
    for how in ways:
        with torch.inference_mode():
            expected = net.denoise(padded, **how)[..., 32:49, 32:52]
            torch.testing.assert_close(net.denoise(picture, **how, margin=32), expected, rtol=1e-4, atol=1e-3)


def test_the_networks_of_at_bsn_have_it() -> None:
    assert {"ATBSN", "StudentA", "StudentB", "StudentC"} <= {
        name for name in ARCHS if "margin" in ARCHS.get(name).denoise_keywords()
    }


def test_a_negative_one_is_refused() -> None:
    with pytest.raises(UserError, match="margin: -1"):
        ZeroPadded.check_denoise({"margin": -1})
