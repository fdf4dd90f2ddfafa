"""Results say where they come from, and those of other weights are not mixed with them."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.kinds import Command, WriteOptions

from atbsn.archs import build_arch
from atbsn.archs.weights import save_weights
from atbsn.data.paired import PairedFolder
from atbsn.engine.evaluation.checks import check_sets
from atbsn.engine.evaluation.evaluator import spread
from atbsn.engine.evaluation.results import read_results
from atbsn.metrics import build_metric
from atbsn.pictures import Picture, write_picture
from atbsn.utils.errors import UserError

VAL = {"type": "SimulatedCamera", "split": "val"}


def validated(command: Command, options: Path, weights: Path, *overrides: str) -> None:
    arguments = (f"path.pretrain_network={weights}", "val.limit=1", *overrides)
    status, output = command("valid.py", "-opt", options, "--set", *arguments)
    assert status == 0, output


def test_results_state_their_origin_and_stay_apart(
    command: Command, write_options: WriteOptions, tmp_path: Path
) -> None:
    options = write_options(datasets={"val": VAL}, val={"save_img": 9}, model=None)
    folder, weights = tmp_path / "results/tiny/val", [tmp_path / "one.pth", tmp_path / "two.pth"]
    for path in weights:
        net = build_arch({"type": "ATBSN", "width": 2})
        save_weights(path, net.state_dict(), {"network": net.options, "denoise": {"k": 1}})
    validated(command, options, weights[0])
    about = yaml.safe_load((folder / "about.yml").read_text())
    assert about["sha256"] == hashlib.sha256(weights[0].read_bytes()).hexdigest()
    assert about["weights"] == str(weights[0]) and about["denoise"] == {"k": 1} and about["commit"]
    assert "clipped" in about["metrics"]["psnr"] and about["limit"] == 1
    first = (folder / "metrics.csv").read_bytes()
    validated(command, options, weights[0])
    assert (folder / "metrics.csv").read_bytes() == first and not list(folder.glob("archived_*"))
    validated(command, options, weights[1])
    (archive,) = folder.glob("archived_*")
    assert (archive / "metrics.csv").read_bytes() == first != (folder / "metrics.csv").read_bytes()
    assert len(list((archive / "panels").iterdir())) == len(list((folder / "panels").iterdir())) == 1
    validated(command, options, weights[1], "test.denoise={k: 3}")
    assert len(list(folder.glob("archived_*"))) == 2


def test_a_limit_measures_that_many(
    command: Command, write_options: WriteOptions, tmp_path: Path, assets: Path
) -> None:
    options = write_options(datasets={"val": VAL}, network={"width": 8})
    validated(command, options, assets / "atbsn_width8.weights.safetensors", "val.limit=2")
    with (tmp_path / "results/tiny/val/metrics.csv").open() as file:
        pictures = [row["image"] for row in csv.DictReader(file) if row["method"] == "denoised"]
    assert len(pictures) == len(set(pictures)) == 2


@pytest.mark.parametrize(
    ("length", "limit", "expected"),
    [(5, None, [0, 1, 2, 3, 4]), (10, 2, [0, 5]), (3, 9, [0, 1, 2]), (7, 3, [0, 2, 4]), (1280, 4, [0, 320, 640, 960])],
)
def test_a_limit_is_spread_over_the_set(length: int, limit: int | None, expected: list[int]) -> None:
    assert spread(length, limit) == expected


def test_all_sets_are_checked_before_one_is_measured(
    command: Command, write_options: WriteOptions, tmp_path: Path, assets: Path
) -> None:
    """The second set cannot be measured: the first one's results, and the old ones of the second, stay as they are."""
    black = np.zeros((40, 40, 3), np.uint8)
    for folder in ("noisy", "clean"):
        write_picture(tmp_path / folder / "a.png", Picture(black[:10]))
    write_picture(tmp_path / "black" / "a.png", Picture(black))
    options = write_options(
        datasets={
            "val_a": VAL,
            "val_b": {"type": "NoisyFolder", "dataroot": "black"},
            "val_c": {"type": "PairedFolder", "dataroot": "noisy", "dataroot_clean": "clean"},
        },
        network={"width": 8},
    )
    old = tmp_path / "results/tiny/val_b/about.yml"
    old.parent.mkdir(parents=True)
    old.write_text("of another time\n")
    weights = assets / "atbsn_width8.weights.safetensors"
    for program in (("valid.py", "-opt", options), ("scripts/compare.py", "-opt", options, weights)):
        status, said = command(*program, "--set", f"path.pretrain_network={weights}", "val.limit=1")
        assert status == 2 and "datasets.val_b: NoisyFolder: none of 1 pictures can be measured" in said, said
        assert "datasets.val_c: a, val.metrics.ssim: a picture of 10x40" in said and "Traceback" not in said
        assert [path.name for path in (tmp_path / "results/tiny").rglob("*")] == ["val_b", "about.yml"]
    assert old.read_text() == "of another time\n"


def test_a_reference_of_another_size_is_found_before_anything_is_measured(tmp_path: Path) -> None:
    for folder, sides in (("noisy", (40, 40)), ("clean", (40, 41))):
        for name, side in zip("ab", sides, strict=True):
            write_picture(tmp_path / folder / f"{name}.png", Picture(np.zeros((side, 40, 3), np.uint8)))
    images = PairedFolder(tmp_path / "noisy", tmp_path / "clean")
    with pytest.raises(UserError, match=r"datasets.val: b: the picture has 40x40 pixels, its reference 41x40"):
        check_sets({"val": images}, {"psnr": build_metric({"type": "psnr"})})


def test_means_are_one_number_a_line(
    command: Command, write_options: WriteOptions, tmp_path: Path, assets: Path
) -> None:
    options = write_options(datasets={"val": VAL}, network={"width": 8}, val={"k": [0, 3]})
    validated(command, options, assets / "atbsn_width8.weights.safetensors")
    found = read_results(tmp_path / "results/tiny/val/means.csv")
    assert [(each.method, each.metric, each.k) for each in found] == [
        (method, metric, k) for method, k in (("noisy", None), ("k=0", 0), ("k=3", 3)) for metric in ("psnr", "ssim")
    ]
    psnr = found[0]
    assert (psnr.pictures, psnr.digits, psnr.higher_is_better) == (1, 2, True)
    assert psnr.protocol == "psnr (RGB, clipped, rounded)"
    with (tmp_path / "results/tiny/val/metrics.csv").open() as file:
        (row,) = (row for row in csv.DictReader(file) if row["method"] == "noisy")
    assert psnr.value == pytest.approx(float(row["psnr [psnr (RGB, clipped, rounded)]"]))
