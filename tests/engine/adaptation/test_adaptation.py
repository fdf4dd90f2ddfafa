"""Learning the noise of one's own pictures, within a given time."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.photos import tiny
from helpers.scenes import scene, taken

import atbsn
from atbsn.app.adapt import sentence, warnings
from atbsn.archs import build_arch
from atbsn.engine.adaptation import adapt
from atbsn.engine.adaptation.cameras import MAX_DIFFERENCE, Cameras, noise_differs
from atbsn.engine.adaptation.plan import make_plan, options_of, patch_side
from atbsn.engine.evaluation.judgement import MIN_PICTURES
from atbsn.engine.evaluation.residual import Residual
from atbsn.noise.likeness import MIN_TRIED
from atbsn.pictures import Picture, write_picture
from atbsn.utils import budget
from atbsn.utils.errors import UserError

NETWORK = {"type": "PhotoNet", "widths": [4, 4], "blocks": 1, "middle_blocks": 1}


def weakened(share: float) -> Any:
    """``fast``, but of what it takes off only a share."""
    net = atbsn.load("fast")
    with torch.no_grad():
        for parameter in net.tail.parameters():
            parameter.mul_(share)
    return net


def test_adapting_learns_and_keeps_the_better(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", Picture(taken(scene(192, 192), 12)))
    start = weakened(0.4)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    told = []
    result = adapt(
        [tmp_path / "a.png"], 3, start, lambda share, what: told.append((share, what)),
        lambda: any("learning, 40 of" in what for _, what in told),
    )  # fmt: skip
    assert all((value == before[name]).all() for name, value in start.state_dict().items())
    assert result.iterations == 40 and told[-1] == (1, "judging")
    stages = [what for _, what in told if not what.startswith("learning")]
    assert stages == [
        "reading", "estimating the noise", "cleaning the pictures", "finding cameras with such noise", "judging"
    ]  # fmt: skip
    old, new = result.judgements
    assert result.helped and old.mean("level") < 0.5 and new.mean("level") > old.mean("level")
    assert new.error < old.error and sentence(result).startswith("The adapted weights suit these pictures better")
    assert result.level == pytest.approx(12, rel=0.2)
    assert result.metadata["model"] == "RenoiseModel" and result.metadata["noise"]["levels"]


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (NETWORK, "take the noise off"),  # the identity, which takes nothing off
        ({"type": "ATBSN", "width": 4}, "has a blind spot"),
        ({**NETWORK, "channels": 4}, "only networks for pictures of 3"),
    ],
)
def test_weights_that_cannot_be_adapted(tmp_path: Path, network: dict[str, Any], said: str) -> None:
    write_picture(tmp_path / "a.png", Picture(taken(scene(192, 192), 12)))
    with pytest.raises(UserError, match=said):
        adapt([tmp_path / "a.png"], 0.1, build_arch(network))


def test_every_stage_keeps_to_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine so busy that every look at the clock comes five seconds after the last, a minute has twelve."""
    for number in range(6):
        write_picture(tmp_path / f"{number}.png", Picture(taken(scene(192, 192), 12, number)))
    looks = itertools.count(0, 5)
    monkeypatch.setattr(budget.time, "monotonic", lambda: float(next(looks)))
    result = adapt([tmp_path], 1, tiny())
    assert 1 <= result.iterations <= 12 and len(result.judgements[0].residuals) == MIN_PICTURES
    assert next(looks) < 60 + 5 * 40  # what has begun is brought to its end


def test_clean_pictures_cost_no_time(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", Picture(scene(192, 192).round().astype(np.uint8)))
    told = []
    result = adapt([tmp_path / "a.png"], 30, build_arch(NETWORK), lambda share, what: told.append(what))
    assert result.fault == "clean" and result.iterations == 0 and told[-1] == "estimating the noise"
    assert result.metadata["network"]["type"] == "PhotoNet"


def test_the_time_is_shared_out() -> None:
    rich = make_plan(seconds=600, seconds_a_crop=0.1, seconds_a_fit=1, seconds_a_camera=0.03)
    assert (rich.reading_seconds, rich.cleaning_seconds, rich.searching_seconds) == pytest.approx((90, 48, 102))
    assert (rich.noise_crops, rich.cleaned_crops, rich.judged_crops) == (32, 32, 8)
    assert (rich.searched_crops, rich.tried) == (12, 128)
    usual = make_plan(seconds=120, seconds_a_crop=0.3, seconds_a_fit=1, seconds_a_camera=0.05)
    assert (usual.noise_crops, usual.cleaned_crops, usual.judged_crops) == (17, 8, 8)
    assert (usual.searched_crops, usual.tried) == (3, 128)
    poor = make_plan(seconds=60, seconds_a_crop=0.7, seconds_a_fit=2, seconds_a_camera=0.1)
    assert (poor.noise_crops, poor.cleaned_crops, poor.judged_crops) == (4, 2, 2)
    assert (poor.searched_crops, poor.tried) == (1, 102)
    assert poor.judging_seconds == pytest.approx(2 * 4.5 * 0.7)
    none = make_plan(seconds=1, seconds_a_crop=10, seconds_a_fit=10, seconds_a_camera=1)
    assert (none.noise_crops, none.cleaned_crops, none.judged_crops) == (4, 2, 2)
    assert (none.searched_crops, none.tried) == (1, MIN_TRIED)


@pytest.mark.parametrize(("side", "patch"), [(40, 32), (64, 32), (96, 48), (192, 96), (300, 128), (4000, 128)])
def test_patches_fit_into_the_reduced_pictures(tmp_path: Path, side: int, patch: int) -> None:
    write_picture(tmp_path / "a.png", Picture(np.zeros((side, side + 10, 3), np.uint8)))
    assert patch_side([tmp_path], tiny()) == (patch, 2 * patch)


def test_the_smallest_pictures_are_learned_from_however_dark(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_picture(tmp_path / "a.png", Picture(taken(20 + 0.1 * scene(64, 64), 4)))
    with caplog.at_level("WARNING", "atbsn"):
        assert adapt([tmp_path], 0.1, tiny(), should_stop=lambda: True).iterations == 1
    assert "--white" not in caplog.text  # of the cleaned pictures, which are files of 16 bits


def residual(lag1: float) -> Residual:
    return Residual(1, 1, 1, lag1, 0, 0, 0, 0)


def test_the_noise_of_several_cameras() -> None:
    near, far = 0.8 * MAX_DIFFERENCE, 1.2 * MAX_DIFFERENCE
    one = [residual(0.3), residual(0.3 + near)]
    assert not noise_differs(one, [0, 1]) and not noise_differs([], [])
    assert noise_differs([*one, residual(0.3 + far)], [0, 1, 2])
    assert not noise_differs([*one, residual(0.3 + far)], [0, 1, 0])  # crops of one picture are averaged
    assert not noise_differs([*one, residual(float("nan"))], [0, 1, 2])


@pytest.mark.parametrize(
    ("cameras", "several"),
    [
        (Cameras({"A": 3}, 0, True), False),  # what files say counts
        (Cameras({"A": 3, "B": 1}, 0, False), True),
        (Cameras({"A": 3}, 2, False), False),
        (Cameras({"A": 3}, 2, True), True),
        (Cameras({}, 2, True), True),
    ],
)
def test_what_counts_as_several(tmp_path: Path, cameras: Cameras, several: bool) -> None:
    assert cameras.are_several == several


def test_a_stop_is_heard_at_once_and_noise_of_two_kinds_is_told(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", Picture(taken(scene(192, 192), 12)))
    grain = np.random.default_rng(0).normal(0, 12, (192, 192, 1)) * np.ones(3)  # white, the same in all channels
    write_picture(tmp_path / "b.png", Picture(np.clip(scene(192, 192) + grain, 0, 255).round().astype(np.uint8)))
    result = adapt([tmp_path], 10, atbsn.load("fast"), should_stop=lambda: True)
    assert result.iterations == 1 and len(result.judgements[0].residuals) == MIN_PICTURES
    assert result.cameras.noise_differs and "differs as that of several cameras" in warnings(result)[0]
    assert sentence(result) and result.metadata["network"]["type"] == "PhotoNet"


@pytest.mark.parametrize(("is_strong", "factors", "rate"), [(True, [1.0, 1.5, 2.0], 2e-4), (False, [2.0], 5e-5)])
def test_weak_noise_is_learned_more_carefully(
    tmp_path: Path, is_strong: bool, factors: list[float], rate: float
) -> None:
    weights, table = tmp_path / "a.pth", tmp_path / "a.json"
    options = options_of(tiny(), weights, tmp_path / "scenes", table, tmp_path, is_strong, 64, 0)
    assert options.datasets["train"]["factors"] == factors
    assert options.train.optim.lr == rate and options.model["cameras"] == str(table)
