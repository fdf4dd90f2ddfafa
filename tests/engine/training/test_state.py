"""Which settings a resumed training must share with the one it continues."""

import copy
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from atbsn.engine.training.state import State, compare_settings
from atbsn.utils.errors import UserError

SETTINGS: dict[str, Any] = {
    "manual_seed": 0,
    "network": {"type": "StudentC", "width": 4},
    "model": {"type": "DistillModel", "ks": [0, 1], "teacher": {"sha256": "aa"}, "frozen_sha256": ["bb"]},
    "train": {"optim": {"type": "Adam", "lr": 0.1}, "ema_decay": 0.0},
}


def changed(*path: str, to: Any) -> dict[str, Any]:
    settings = copy.deepcopy(SETTINGS)
    section = settings
    for step in path[:-1]:
        section = section[step]
    section[path[-1]] = to
    return settings


def compare(old: dict[str, Any], new: dict[str, Any] = SETTINGS) -> None:
    compare_settings(State(Path("9.state"), {"settings": json.dumps(old), "ema": None, "iteration": 9}), new)


@pytest.mark.parametrize(
    "old",
    [
        changed("model", "frozen_sha256", to=["cc"]),
        changed("model", "frozen_sha256", to=[]),
        changed("model", "teacher", "sha256", to="cc"),
        changed("model", "type", to="BSNModel"),
        changed("network", "width", to=8),
        changed("train", "optim", "type", to="SGD"),
        changed("manual_seed", to=1),
    ],
)
def test_other_helpers_networks_and_seeds_are_refused(old: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"9\.state: made with other options: .*; resume with its own"):
        compare(old)


@pytest.mark.parametrize("old", [SETTINGS, changed("model", "ks", to=[0]), changed("train", "optim", "lr", to=0.2)])
def test_other_settings_are_only_said(old: dict[str, Any]) -> None:
    compare(old)


def test_states_of_before_helpers_had_checksums_load() -> None:
    old = copy.deepcopy(SETTINGS)
    del old["model"]["frozen_sha256"]
    compare(old)


@pytest.mark.parametrize(("family", "refused"), [([0, 1, 3, 5, 7, 9, 11], False), ([0, 1], True)])
def test_states_of_before_an_argument_was_there_have_its_default(family: list[int], refused: bool) -> None:
    new = changed("network", to={"type": "ATBSN", "width": 4, "mean": 0.0, "family": family})
    old = changed("network", to={"type": "ATBSN", "width": 4, "mean": 0.0})
    with pytest.raises(UserError, match=r"network\.family is") if refused else nullcontext():
        compare(old, new)
