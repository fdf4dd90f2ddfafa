"""atbsn compare lays weight files and classical denoisers side by side."""

import csv
import hashlib
import sys
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from helpers.kinds import Command, WriteOptions

from atbsn.archs.shipped import find_weights
from atbsn.engine.evaluation.comparison import bm3d_candidate, short_names
from atbsn.pictures import read_picture


def test_compare_writes_a_table_and_panels(
    command: Command, write_options: WriteOptions, assets: Path, tmp_path: Path
) -> None:
    options = write_options(
        datasets={"val": {"type": "SimulatedCamera", "split": "val"}}, val={"save_img": 1}, network=None, model=None
    )
    weights = [assets / "atbsn_width8.weights.safetensors", assets / "student_a.weights.safetensors"]
    status, output = command(
        "compare", "-opt", options, *weights, "--k", "0", "3", "--mean", "--nlm", "10"
    )  # fmt: skip
    assert status == 0, output
    folder = tmp_path / "results" / "tiny" / "val"
    with (folder / "comparison.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    family, student = "atbsn_width8.weights", "student_a.weights"
    expected = ["noisy", f"{family} k=0", f"{family} k=3", f"{family} mean", student, "OpenCV NLM h=10"]
    assert list(rows) == expected and all(name in (folder / "comparison.md").read_text() for name in expected)
    assert rows[student]["parameters"] == "128385" and rows["noisy"]["parameters"] == ""
    said = (folder / "comparison.md").read_text()
    for path in weights:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert f"- {path}: sha256 {digest}" in said and digest[:12] in said.split("- psnr")[0]
    assert "- commit " in said
    # Student A: 3 -> 48 at full, 48 -> 48 at a half and a quarter, 96 -> 96 at a half, 99 -> 3 at full size.
    kmac = 9 * (3 * 48 + 48 * 48 / 4 + 48 * 48 / 16 + 96 * 96 / 4 + 99 * 3) / 1e3
    assert abs(float(rows[student]["kMAC/pixel"]) - kmac) < 1e-3
    assert float(rows["OpenCV NLM h=10"]["psnr"]) > float(rows["noisy"]["psnr"]) + 1
    assert float(rows[student]["MP/s"]) > 0
    assert read_picture(folder / "comparison_panels" / "chelsea.png").rgb.shape[0] > 2 * 256  # two rows of four


def test_shipped_weights_are_compared_by_name(command: Command, write_options: WriteOptions, tmp_path: Path) -> None:
    options = write_options(
        datasets={"val": {"type": "SimulatedCamera", "split": "val"}}, val={"limit": 1}, network=None, model=None
    )
    status, output = command("compare", "-opt", options, "real")
    assert status == 0, output
    digest = hashlib.sha256(find_weights("real").read_bytes()).hexdigest()
    assert f"- real: sha256 {digest}" in (tmp_path / "results" / "tiny" / "val" / "comparison.md").read_text()


def test_pictures_are_kept_one_by_one_and_compared_in_pairs(
    command: Command, write_options: WriteOptions, tmp_path: Path
) -> None:
    options = write_options(datasets={"val": {"type": "SimulatedCamera", "split": "val"}}, network=None, model=None)
    status, output = command("compare", "-opt", options, "--nlm", "3", "10")
    assert status == 0, output
    folder = tmp_path / "results" / "tiny" / "val"
    pictures = list(csv.DictReader((folder / "comparison_pictures.csv").open()))
    assert [row["method"] for row in pictures] == 2 * ["noisy", "OpenCV NLM h=3", "OpenCV NLM h=10"]
    (column,) = [name for name in pictures[0] if name.startswith("psnr [")]
    values = {(row["method"], row["image"]): float(row[column]) for row in pictures}
    means = {row["method"]: float(row["psnr"]) for row in csv.DictReader((folder / "comparison.csv").open())}
    for method, mean in means.items():
        assert abs(mean - fmean(value for (label, _), value in values.items() if label == method)) < 1e-9
    paired = [row for row in csv.DictReader((folder / "comparison_paired.csv").open()) if row["metric"] == "psnr"]
    assert {row["method"] for row in paired} == {"noisy", "OpenCV NLM h=3"}
    assert all(row["best"] == "OpenCV NLM h=10" and row["pictures"] == "2" for row in paired)
    for row in paired:
        assert abs(float(row["method - best"]) - means[row["method"]] + means["OpenCV NLM h=10"]) < 1e-9
    assert "| psnr | noisy | OpenCV NLM h=10 | 2 | " in (folder / "comparison.md").read_text()


def test_a_stop_leaves_the_table_of_what_is_done(
    command: Command, write_options: WriteOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = write_options(datasets={"val": {"type": "SimulatedCamera", "split": "val"}}, network=None, model=None)
    denoise, calls = cv2.fastNlMeansDenoisingColored, []

    def interrupted(picture: np.ndarray, *arguments: Any) -> Any:
        calls.append(picture.shape)
        if len(calls) > 5:  # four of the speed, one picture
            raise KeyboardInterrupt
        return denoise(picture, *arguments)

    monkeypatch.setattr(cv2, "fastNlMeansDenoisingColored", interrupted)
    status, _ = command("compare", "-opt", options, "--nlm", "10")
    folder = tmp_path / "results" / "tiny" / "val"
    assert status == 130 and "only 1 of them are done" in (folder / "comparison.md").read_text()
    assert len(list(csv.DictReader((folder / "comparison_pictures.csv").open()))) == 2
    assert [row["method"] for row in csv.DictReader((folder / "comparison.csv").open())] == ["noisy", "OpenCV NLM h=10"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["experiments/a/models/net_latest.pth", "b.pth", "real"], ["a", "b", "real"]),
        (["experiments/a/models/net_latest.pth", "experiments/a/models/net_best.pth"], ["a/net_latest", "a/net_best"]),
        (["x/a.pth", "y/a.pth", "y/b.pth"], ["x/a", "y/a", "b"]),
        (["x/runs/a/models/n.pth", "y/runs/a/models/n.pth"], ["x/runs/a/n", "y/runs/a/n"]),
        (["a.pth", "x/a.pth"], ["a", "x/a"]),
        (["a.pth", "a.pth"], ["a", "a"]),
        ([], []),
    ],
)
def test_files_of_one_name_are_told_apart(paths: list[str], names: list[str]) -> None:
    assert short_names(paths) == names


def test_methods_of_one_name_are_refused(
    command: Command, write_options: WriteOptions, assets: Path, tmp_path: Path
) -> None:
    options = write_options(datasets={"val": {"type": "SimulatedCamera", "split": "val"}})
    status, output = command("compare", "-opt", options, "--nlm", "10", "10")
    assert status == 2 and "different names" in output and "Traceback" not in output


def test_bm3d_takes_the_level_that_the_picture_has(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    package: Any = ModuleType("bm3d")
    package.bm3d_rgb = lambda picture, sigma: given.append(sigma * 255) or picture
    monkeypatch.setitem(sys.modules, "bm3d", package)
    noisy = 120 + 12 * torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    for sigma in ("auto", 7.0):
        candidate = bm3d_candidate(sigma)
        clean = candidate.denoise(noisy)[candidate.labels[0]]
        assert (clean - noisy.clamp(0, 255)).abs().max() <= 0.5
    assert abs(given[0] - 12) < 1.2 and given[1] == 7


def test_a_file_of_data_alone_is_enough(command: Command, tmp_path: Path) -> None:
    """Its training set has no patch size, which is the method's to say."""
    (tmp_path / "mine.yml").write_text(
        "data: mine\nname: mine\ndatasets:\n  train: {type: NoisyFolder, dataroot: nowhere}\n"
        "  val: {type: SimulatedCamera, split: val}\nval: {limit: 1}\n"
    )
    status, output = command("scripts/compare.py", "-opt", "mine.yml", "--nlm", "10")
    assert status == 0 and "OpenCV NLM h=10" in output, output
