"""LPIPS and DISTS, where a backbone cannot be fetched: with an untrained one in its place, and without the package."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models._api import WeightsEnum

from atbsn.metrics import backbones, build_metric
from atbsn.metrics import dists as dists_file
from atbsn.metrics import lpips as lpips_file
from atbsn.utils.errors import UserError


@pytest.fixture(autouse=True)
def forget() -> Iterator[Any]:
    for file in (lpips_file, dists_file):
        file._network.cache_clear()
    yield
    for file in (lpips_file, dists_file):
        file._network.cache_clear()


def untrained(weights: WeightsEnum, *arguments: object, **options: object) -> dict[str, torch.Tensor]:
    from torchvision.models import alexnet, vgg16

    torch.manual_seed(0)
    return {"AlexNet_Weights": alexnet, "VGG16_Weights": vgg16}[type(weights).__name__](weights=None).state_dict()


EXTRAS = {"lpips": ("lpips", "v0.1, alex"), "dists": ("torchmetrics", "VGG16, full size")}


@pytest.mark.parametrize("name", EXTRAS)
def test_equal_pictures_are_at_no_distance(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    package, subject = EXTRAS[name]
    pytest.importorskip(package)
    monkeypatch.setattr(WeightsEnum, "get_state_dict", untrained)
    metric = build_metric({"type": name, "round": False})
    assert metric.protocol == f"{name} ({subject}, clipped, not rounded)" and not metric.higher_is_better
    rng = np.random.default_rng(0)
    clean = rng.uniform(0, 255, (64, 70, 3)).astype(np.float32)
    near, far = (clean + rng.normal(0, std, clean.shape) for std in (5, 50))
    assert metric(clean, clean) == pytest.approx(0, abs=1e-6)
    assert metric(clean, clean) < metric(near, clean) < metric(far, clean)
    assert metric(clean + 1000, np.full_like(clean, 255)) == pytest.approx(0, abs=1e-6), "clipped"
    with pytest.raises(UserError, match="at least 32x32"):
        metric(clean[:31], clean[:31])
    with pytest.raises(UserError, match="cannot be compared"):
        metric(clean[:40], clean)


@pytest.mark.parametrize("name", EXTRAS)
def test_without_the_package(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(backbones, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"pip install \"atbsn\[{name}\]\""):
        build_metric({"type": name})


def test_without_the_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lpips")

    def refused(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", refused)
    with pytest.raises(UserError, match=r"'alex' cannot be fetched \(no route to host\); run it once where"):
        build_metric({"type": "lpips"})


@pytest.mark.parametrize("change", [{"net": "resnet"}, {"protocol": "y"}, {"clip": 1}])
def test_wrong_arguments(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        build_metric({"type": "lpips", **change})
