"""Results say where they come from, and those of other weights are not mixed with them."""

import csv
import hashlib

import pytest
import yaml

from atbsn.archs import build_arch
from atbsn.archs.weights import save_weights
from atbsn.engine.evaluation.evaluator import spread

VAL = {"type": "SimulatedCamera", "split": "val"}


def validated(command, options, weights, *overrides):
    arguments = (f"path.pretrain_network={weights}", "val.limit=1", *overrides)
    status, output = command("valid.py", "-opt", options, "--set", *arguments)
    assert status == 0, output


def test_results_state_their_origin_and_stay_apart(command, write_options, tmp_path):
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


def test_a_limit_measures_that_many(command, write_options, tmp_path, assets):
    options = write_options(datasets={"val": VAL}, network={"width": 8})
    validated(command, options, assets / "atbsn_width8.weights.safetensors", "val.limit=2")
    with (tmp_path / "results/tiny/val/metrics.csv").open() as file:
        pictures = [row["image"] for row in csv.DictReader(file) if row["method"] == "denoised"]
    assert len(pictures) == len(set(pictures)) == 2


@pytest.mark.parametrize(
    ("length", "limit", "expected"),
    [(5, None, [0, 1, 2, 3, 4]), (10, 2, [0, 5]), (3, 9, [0, 1, 2]), (7, 3, [0, 2, 4]), (1280, 4, [0, 320, 640, 960])],
)
def test_a_limit_is_spread_over_the_set(length, limit, expected):
    assert spread(length, limit) == expected
