"""What holds for every method: its published settings, the patches that it takes, and a step."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.methods import built

from atbsn.archs import build_arch
from atbsn.models import build_model
from atbsn.registry import ARCHS, MODELS
from atbsn.registry.build import with_defaults
from atbsn.utils.errors import UserError

PUBLISHED: dict[str, dict[str, Any]] = {
    "AMSNetModel": {"pd_train": 5, "pd": 2},
    "APBSNModel": {"pd_train": 5, "pd": 2, "refine": 8, "p": 0.16},
    "APRRDModel": {"k_train": 9, "k_test": 1, "weight_reg": 4.0},
    "BSNModel": {"k_train": 9, "k_test": 3},
    "Blind2UnblindModel": {"alpha": 1.0, "beta_first": 2.0, "beta_last": 20.0, "ramp_start": 0.4, "beta_test": 20.0},
    "CBSNModel": {"stride_train": 5, "stride_inv": 2, "ramp": 0.4, "weight_inv": 2.0},
    "DistillModel": {"ks": (0, 1, 3, 5, 7, 9, 11), "loss": "multi_teacher", "flat_std": 1.0, "texture_std": 5.0},
    "NSPModel": {},
    "Neighbor2NeighborModel": {"ratio": 2.0, "epochs": 100},
    "Noise2VoidModel": {"percent": 0.198, "radius": 5},
    "ReconstructionModel": {"pd_train": 1},
    "RecorruptModel": {"alpha": (0.5, 2.0), "weight": 1.0, "strong": 0.0},
    "RenoiseModel": {"loss": "psnr", "raw": False},
    "SASSModel": {"stage": 1, "k": 9, "flat_std": 1.0, "texture_std": 5.0},
    "SDAPModel": {"stride": 5, "enhance": True},
}
"""The settings of the papers or of their authors' code; ours, where a method is ours."""
MULTIPLES = {
    "AMSNetModel": (5, 30), "APBSNModel": (5, 5), "APRRDModel": (1, 6), "BSNModel": (1, 6),
    "Blind2UnblindModel": (1, 6), "CBSNModel": (10, 30), "DistillModel": (32, 96), "NSPModel": (5, 5),
    "Neighbor2NeighborModel": (2, 12), "Noise2VoidModel": (1, 6), "ReconstructionModel": (1, 6),
    "RecorruptModel": (16, 48), "RenoiseModel": (16, 48), "SASSModel": (32, 96), "SDAPModel": (5, 5),
}  # fmt: skip
"""Of what the sides of patches are multiples, with a network that pads to 1 and with one that pads to 6.

ATBSN, which teaches in two of them, pads to 32.
"""


def test_methods_that_are_listed_are_here() -> None:
    assert set(MODELS) >= PUBLISHED.keys() | MULTIPLES.keys()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_without_a_word_it_is_as_published(name: str) -> None:
    parameters = inspect.signature(MODELS.get(name)).parameters
    defaults = {key: each.default for key, each in parameters.items() if each.default is not each.empty}
    assert name in PUBLISHED, (
        f'{name}: it is not said what it is published with; write "{name}": {defaults} into PUBLISHED of this file, '
        "with the settings that its paper or its authors' code has"
    )
    assert {key: defaults[key] for key in PUBLISHED[name]} == PUBLISHED[name]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_patches_are_multiples_of_its_strides_and_of_what_the_network_pads_to(name: str, tmp_path: Path) -> None:
    cls = MODELS.get(name)
    given = with_defaults(cls, cls.example(tmp_path))
    networks = [type("Padding", (ARCHS.get("ATBSN"),), {"size_multiple": multiple}) for multiple in (1, 6)]
    found = tuple(cls.patch_multiple(network, given) for network in networks)
    assert name in MULTIPLES, (
        f'{name}: its patches are multiples of {found}; if that is right, write "{name}": {found} into MULTIPLES of '
        "this file, otherwise override patch_multiple"
    )
    assert found == MULTIPLES[name]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_step_reaches_the_network_and_nothing_else(name: str, tmp_path: Path) -> None:
    model, side = built(name, tmp_path, side=40)
    noisy = torch.rand(2, model.picture_channels, side, side, generator=torch.Generator().manual_seed(0)) * 255
    losses = model.losses({"noisy": noisy, "index": torch.tensor([0, 1])}, torch.tensor(0.5))
    assert all(loss.isfinite() and loss.dim() == 0 for loss in losses.values())
    losses["loss"].backward()
    assert not any(loss.requires_grad for part, loss in losses.items() if part != "loss")
    gradients = [parameter.grad for parameter in model.net.parameters() if parameter.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)
    cls, network = type(model), type(model.net)
    given = with_defaults(cls, cls.example(tmp_path))
    cls.check_network(network, given)  # as the check of an option file calls them, before there is a method
    cls.check_patch(network, given, 4096)


@pytest.mark.parametrize(
    ("name", "network", "arguments", "said"),
    [
        ("BSNModel", "ATBSN", {"k_train": 31}, r"model\.k_train: 31: this hole leaves"),
        ("SASSModel", "ATBSN", {"k": 31}, r"model\.k: 31: this hole leaves"),
        ("SASSModel", "LAN", {"k": 31}, r"model\.k: 31: this hole leaves"),
        ("DistillModel", "StudentC", {"ks": [0, 31]}, r"model\.ks: 31: this hole leaves"),
    ],
)
def test_a_hole_that_leaves_a_patch_nothing_to_see_is_refused(
    name: str, network: str, arguments: dict[str, Any], said: str, tmp_path: Path
) -> None:
    cls = MODELS.get(name)
    given = with_defaults(cls, {**cls.example(tmp_path), **arguments})
    cls.check_patch(ARCHS.get(network), given, 512)
    with pytest.raises(UserError, match=said):
        cls.check_patch(ARCHS.get(network), given, 24)


@pytest.mark.parametrize("name", ["APBSNModel", "AMSNetModel", "CBSNModel", "SDAPModel"])
def test_a_network_that_it_cannot_train_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"network\.type"):
        build_model({"type": name}, build_arch({"type": "StudentC", "width": 2}))


@pytest.mark.parametrize(("network", "reason"), [("CBSN", "needs blind"), ("NSP", "changes the size")])
@pytest.mark.parametrize(
    "name", ["DistillModel", "Neighbor2NeighborModel", "Noise2VoidModel", "RecorruptModel", "RenoiseModel"]
)
def test_methods_for_ordinary_networks_refuse_others(name: str, network: str, reason: str, tmp_path: Path) -> None:
    cls = MODELS.get(name)
    with pytest.raises(UserError, match=f"network.type: {network} {reason}.*; use "):
        cls.check_network(ARCHS.get(network), with_defaults(cls, cls.example(tmp_path)))
