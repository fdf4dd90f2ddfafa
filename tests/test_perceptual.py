"""LPIPS, where its backbone cannot be fetched: with an untrained one in its place, and without the package."""

import numpy as np
import pytest
import torch
from torchvision.models._api import WeightsEnum

from atbsn.metrics import build_metric
from atbsn.utils import perceptual
from atbsn.utils.errors import UserError


@pytest.fixture(autouse=True)
def forget():
    perceptual.load_lpips.cache_clear()
    yield
    perceptual.load_lpips.cache_clear()


def untrained(weights: WeightsEnum, *arguments: object, **options: object) -> dict[str, torch.Tensor]:
    from torchvision.models import alexnet

    torch.manual_seed(0)
    return alexnet(weights=None).state_dict()


def test_equal_pictures_are_at_no_distance(monkeypatch):
    pytest.importorskip("lpips")
    monkeypatch.setattr(WeightsEnum, "get_state_dict", untrained)
    metric = build_metric({"type": "lpips", "round": False})
    assert metric.protocol == "lpips (v0.1, alex, clipped, not rounded)" and not metric.higher_is_better
    rng = np.random.default_rng(0)
    clean = rng.uniform(0, 255, (64, 70, 3)).astype(np.float32)
    near, far = (clean + rng.normal(0, std, clean.shape) for std in (5, 50))
    assert metric(clean, clean) == 0 < metric(near, clean) < metric(far, clean)
    assert metric(clean + 1000, np.full_like(clean, 255)) == 0, "clipped"
    with pytest.raises(UserError, match="at least 32x32"):
        metric(clean[:31], clean[:31])
    with pytest.raises(UserError, match="cannot be compared"):
        metric(clean[:40], clean)


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install \"atbsn\[lpips\]\""):
        build_metric({"type": "lpips"})


def test_without_the_backbone(monkeypatch):
    pytest.importorskip("lpips")

    def refused(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", refused)
    with pytest.raises(UserError, match=r"'alex' cannot be fetched \(no route to host\); run it once where"):
        build_metric({"type": "lpips"})


@pytest.mark.parametrize("change", [{"net": "resnet"}, {"protocol": "y"}, {"clip": 1}])
def test_wrong_arguments(change):
    with pytest.raises(UserError, match=next(iter(change))):
        build_metric({"type": "lpips", **change})
