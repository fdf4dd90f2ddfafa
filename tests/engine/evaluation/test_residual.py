"""Measures that need no reference agree with those that have one."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.kinds import Command, WriteOptions
from helpers.scenes import scene, taken

from atbsn.data import build_dataset
from atbsn.engine.evaluation.evaluator import evaluate, means
from atbsn.engine.evaluation.residual import MAX_SIDE, MEASURES, ResidualMeter, centre, measure_residuals
from atbsn.metrics import ESTIMATED_PSNR
from atbsn.noise import estimate
from atbsn.pictures import Picture, to_tensor, write_picture
from atbsn.utils.errors import UserError


def box(side: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """A denoiser: the mean of so many pixels square."""

    def denoise(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, side, 1, side // 2, count_include_pad=False)

    return denoise


CANDIDATES = {"none": lambda x: x, "half": lambda x: (x + box(3)(x)) / 2, "3": box(3), "5": box(5), "9": box(9)}


def measured(noisy: np.ndarray, candidates: dict[str, Any]) -> Any:
    picture = to_tensor(noisy)[None]
    noise = estimate([noisy])
    return measure_residuals(lambda x: {name: each(x) for name, each in candidates.items()}, picture, noise)


@pytest.mark.parametrize("level", [4.0, 10.0, 20.0])
def test_the_estimated_error_is_the_true_one(level: float) -> None:
    clean = scene()
    noisy = taken(clean, level)
    outputs, residuals = measured(noisy, CANDIDATES)
    true = {name: float((output[0] - to_tensor(clean.astype(np.float32))).square().mean())
            for name, output in outputs.items()}  # fmt: skip
    for name, residual in residuals.items():
        assert residual.error == pytest.approx(true[name], abs=0.2 * level**2)
    assert min(true, key=true.get) == min(residuals, key=lambda name: residuals[name].error)


def test_a_denoiser_that_copies_the_noise_is_not_taken_in() -> None:
    """What is taken off alone cannot tell: with the noise known, taking off exactly it has no error but for chance."""
    clean = scene()
    noisy = taken(clean)
    noise = to_tensor(noisy.astype(np.float32))[None] - to_tensor(clean.astype(np.float32))[None]
    _, residuals = measured(noisy, {"right": lambda x: x - noise, "half": lambda x: x - noise / 2, "9": box(9)})
    right, half, blurred = residuals.values()
    assert right.level == pytest.approx(1, abs=0.12) and half.level == pytest.approx(0.5, abs=0.06)
    assert right.lag1 == pytest.approx(right.noise_lag1, abs=0.08)
    assert right.channels == pytest.approx(right.noise_channels, abs=0.08)
    assert abs(right.structure) < 0.2 < blurred.structure


def test_values_by_the_names_of_the_measures() -> None:
    _, residuals = measured(taken(scene()), {"none": lambda x: x, "3": box(3)})
    values = residuals["3"].values()
    assert list(values) == list(MEASURES) and values["residual_level"] == residuals["3"].level
    assert values[ESTIMATED_PSNR] == pytest.approx(10 * math.log10(255**2 / residuals["3"].error))
    none = residuals["none"].values()
    assert none["residual_level"] == 0 and math.isnan(none["residual_lag1"])
    assert none[ESTIMATED_PSNR] == pytest.approx(20 * math.log10(255 / 10), abs=1)


def test_an_error_below_what_can_be_is_not_believed() -> None:
    residual = measured(taken(scene()), {"3": box(3)})[1]["3"]
    too_good = type(residual)(**{**residual.__dict__, "error": -5.0}).values()[ESTIMATED_PSNR]
    assert too_good == pytest.approx(10 * math.log10(255**2 / (0.01 * residual.variance)))


def test_the_centre_of_a_large_picture() -> None:
    picture = np.arange(9 * 1300).reshape(9, 1300, 1)
    assert centre(picture).shape == (9, MAX_SIDE, 1) and (centre(picture, 4)[..., 0] == picture[2:6, 648:652, 0]).all()


def test_the_noise_of_a_picture_is_estimated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        "atbsn.engine.evaluation.residual.estimate", lambda pictures: calls.append(1) or estimate(pictures)
    )
    meter, picture = ResidualMeter(), to_tensor(taken(scene(96, 96)))
    assert meter.noise_of("a", picture) is meter.noise_of("a", picture) and len(calls) == 1


def test_a_set_without_references(tmp_path: Path) -> None:
    for number in range(2):
        write_picture(tmp_path / f"{number}.png", Picture(taken(scene(), 10, number)))
    write_picture(tmp_path / "white.png", Picture(np.full((64, 64, 3), 255, np.uint8)))
    images = build_dataset({"type": "NoisyFolder", "dataroot": str(tmp_path)})
    shown = {}
    rows = evaluate(
        images, lambda x: {"little": (x + box(3)(x)) / 2, "9": box(9)(x)}, {}, "test", with_noisy=True, num_panels=1,
        on_panel=lambda key, pictures: shown.update({key: pictures}),
    )  # fmt: skip
    table = means(rows, MEASURES)
    assert {row["image"] for row in rows} == {"0", "1"}  # the white one tells nothing
    assert table["little"][ESTIMATED_PSNR] > max(table["noisy"][ESTIMATED_PSNR], table["9"][ESTIMATED_PSNR])
    captions = ["noisy", "little", "little: taken off x 4", "9", "9: taken off x 4"]
    assert list(shown["0"]) == captions and all(picture.dtype == np.uint8 for picture in shown["0"].values())
    residual = shown["0"]["noisy"].astype(int) - shown["0"]["9"]
    assert np.abs(shown["0"]["9: taken off x 4"] - np.clip(128 + 4 * residual, 0, 255)).max() <= 4


def test_a_set_of_which_nothing_can_be_measured(tmp_path: Path) -> None:
    write_picture(tmp_path / "white.png", Picture(np.full((64, 64, 3), 255, np.uint8)))
    images = build_dataset({"type": "NoisyFolder", "dataroot": str(tmp_path)})
    with pytest.raises(UserError, match="none of 1 pictures can be measured without a reference"):
        evaluate(images, lambda x: {"": x}, {}, "test")


def test_the_commands_measure_without_references(
    command: Command, write_options: WriteOptions, tmp_path: Path, assets: Path
) -> None:
    write_picture(tmp_path / "in/a.png", Picture(taken(scene(96, 96))))
    val = {"type": "NoisyFolder", "dataroot": "in"}
    options = write_options(datasets={"val": val}, network={"width": 8}, val={"save_img": 1, "k": [0, 3]})
    weights = assets / "atbsn_width8.weights.safetensors"
    status, said = command("valid.py", "-opt", options, "--set", f"path.pretrain_network={weights}")
    assert status == 0 and "val: the least error is estimated for" in said
    folder = tmp_path / "results/tiny/val"
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["noisy", "k=0", "k=3"]
    assert any(name.startswith("estimated_psnr [dB (Stein") for name in rows[0]) and (folder / "panels/a.png").is_file()
    status, said = command("scripts/compare.py", "-opt", options, "--nlm", "5", "10")
    assert status == 0 and "estimated_psnr" in (folder / "comparison.md").read_text()


def test_training_chooses_the_best_weights_without_references(
    command: Command, write_options: WriteOptions, tmp_path: Path
) -> None:
    write_picture(tmp_path / "in/a.png", Picture(taken(scene(96, 96))))
    val = {"val_freq": 3, "best_metric": ESTIMATED_PSNR}
    options = write_options(datasets={"val": {"type": "NoisyFolder", "dataroot": "in"}}, val=val)
    status, said = command("train.py", "-opt", options)
    assert status == 0, said
    with (tmp_path / "experiments/tiny/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["metric"] for row in rows} == set(MEASURES) and {row["iteration"] for row in rows} == {"3", "6"}
    assert (tmp_path / "experiments/tiny/models/net_best.pth").is_file()


@pytest.mark.parametrize(
    ("val_set", "best", "said"),
    [
        ({"type": "NoisyFolder", "dataroot": "in"}, "psnr", "'psnr': not measured on datasets.val, which has no"),
        ({"type": "SimulatedCamera", "split": "val"}, ESTIMATED_PSNR, "which has references; use psnr, ssim"),
    ],
)  # fmt: skip
def test_what_is_not_measured_cannot_choose(
    command: Command, write_options: WriteOptions, tmp_path: Path, val_set: dict[str, str], best: str, said: str
) -> None:
    write_picture(tmp_path / "in/a.png", Picture(taken(scene(96, 96))))
    options = write_options(datasets={"val": val_set}, val={"val_freq": 3, "best_metric": best})
    status, output = command("train.py", "-opt", options)
    assert status == 2 and said in output and not (tmp_path / "experiments").exists()
